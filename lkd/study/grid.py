"""Studies, and grids of recipes from a profile."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import nn

from lkd.engine.teacher_origin import warn_of_changed_images
from lkd.engine.workers import execute_all
from lkd.profiles import Profile, profile_name
from lkd.profiles.validation import LISTS
from lkd.recipe import Recipe
from lkd.runs.published import published
from lkd.runs.store import Store
from lkd.study.measure import NotMeasuredError
from lkd.study.results import Label, Results, no_label
from lkd.util.checks import check_list, unknown


@dataclass(frozen=True)
class Study:
    """A set of recipes for one question.

    Args:
        recipes: the recipes, including the teachers'.
        label: extra columns for a distilled run.

    Example:
        >>> from lkd.study import distillation
        >>> len(distillation("small", teachers=["mini_slak"], objectives=["nkd"], seeds=[0]).recipes)
        5
    """

    recipes: tuple[Recipe, ...]
    label: Label = no_label

    def run(self, store: Store | None = None, workers: int | None = None) -> Results:
        """Run the recipes that a store does not have, in parallel, and return the results of all.

        Args:
            store: the store of runs; by default the one in this machine's home.
            workers: number of processes; by default one per GPU or, without GPUs, one per CPU.
        """
        runs = execute_all(self.recipes, store or Store(), workers)
        warn_of_changed_images(runs)
        return Results(runs, self.label)

    def published(self, profile: str) -> Results:
        """The published results of a profile; nothing is trained.

        Raises:
            FileNotFoundError: unpublished runs; the message gives their number.
        """
        store = published(profile)
        if found := self.find(store):
            return found
        missing = sum(store.find(recipe) is None for recipe in self.recipes)
        raise FileNotFoundError(
            f"{missing} of these {len(self.recipes)} runs are not published for profile {profile_name(profile)!r}: "
            "run the chapter without published=True, or with the profile's own parameters"
        )

    def find(self, store: Store) -> Results | None:
        """The results if a store has all runs, else None. The networks of these runs are not loaded."""
        runs = [run for recipe in self.recipes if (run := store.find(recipe))]
        if len(runs) < len(self.recipes):
            return None
        return Results([replace(run, build=_without_weights) for run in runs], self.label)


class WithoutWeightsError(NotMeasuredError):
    """A missing measurement that needs weights, of runs read from records without weights."""


def _without_weights() -> nn.Module:
    raise WithoutWeightsError(
        "these runs come from their records, which have no weights, and this measurement is missing: run the chapter "
        "without published=True, or with the profile's own parameters"
    )


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid of teachers, students, objectives and seeds.

    Args:
        profile: the scale, by name or file. The default of the other arguments is the profile's value for the chapter,
            or its general one.
        chapter: a key of the profile's `chapters`.
        teachers, students, objectives: names.
        teacher_seeds: seeds of the trained instances of each teacher.
        seeds: seeds of the students.

    Raises:
        KeyError: an unknown profile.
        TypeError, ValueError: an argument that is not a list, is empty, or has an entry twice.
    """

    profile: str
    chapter: str
    teachers: Sequence[str] | None = None
    students: Sequence[str] | None = None
    objectives: Sequence[str] | None = None
    teacher_seeds: Sequence[int] | None = None
    seeds: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name, kind in LISTS.items():
            default = self.settings.get(name, getattr(self.scale, name))
            object.__setattr__(self, name, listed(name, getattr(self, name), list(default), kind))

    @cached_property
    def scale(self) -> Profile:
        """The loaded profile."""
        return Profile.load(self.profile)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The profile's settings for this chapter."""
        return self.scale.chapters.get(self.chapter, {})

    def teacher_recipes(self, **overrides: Any) -> list[Recipe]:
        """One recipe per teacher and teacher seed."""
        return [
            self.scale.teacher_recipe(model, seed=seed, **overrides)
            for model in self.teachers or ()
            for seed in self.teacher_seeds or ()
        ]

    def student_recipes(
        self, teachers: Sequence[Recipe], methods: Sequence[Mapping[str, Any]] | None = None, **overrides: Any
    ) -> list[Recipe]:
        """Baseline and distilled recipes of every student and seed.

        Args:
            teachers: recipes of the teachers.
            methods: recipe fields of each method, including `objective`; by default one per objective.
            overrides: recipe fields of every student.
        """
        methods = [{"objective": name} for name in self.objectives or ()] if methods is None else methods
        each = [(model, seed) for model in self.students or () for seed in self.seeds or ()]
        recipe = self.scale.student_recipe
        baselines = [recipe(model, seed=seed, **overrides) for model, seed in each]
        distilled = [
            recipe(model, seed=seed, **{"teacher": teacher, **overrides, **method})
            for teacher in teachers
            for method in methods
            for model, seed in each
        ]
        return [*baselines, *distilled]


def listed(
    name: str,
    given: Sequence[Any] | None,
    default: list[Any],
    kind: type | tuple[type, ...],
    known: Collection[str] | None = None,
) -> list[Any]:
    """The checked list of a caller, or the default.

    Raises:
        KeyError: an entry that is not a known name.
        TypeError: not a list, or entries of another type.
        ValueError: an empty list, or an entry twice.
    """
    if given is None:
        return default
    check_list(name, given, kind)
    for entry in given:
        if known is not None and entry not in known:
            raise KeyError(unknown(f"entry of {name}", entry, known))
    return list(given)


def unique(recipes: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """Recipes without repetitions, in order of first appearance."""
    return tuple(dict.fromkeys(recipes))
