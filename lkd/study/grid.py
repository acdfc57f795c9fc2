"""A study: recipes that answer one question together, and how a profile's grid of them is made."""

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
from lkd.study.results import Label, Results, no_label
from lkd.util.checks import check_list, unknown


@dataclass(frozen=True)
class Study:
    """Recipes that answer one question together.

    Args:
        recipes: what to run; the recipes of their teachers come along.
        label: what a row about a distilled run says besides who taught whom, how and with which seeds.

    Example:
        >>> from lkd.study import distillation
        >>> len(distillation("small", teachers=["mini_slak"], objectives=["nkd"], seeds=[0]).recipes)
        5
    """

    recipes: tuple[Recipe, ...]
    label: Label = no_label

    def run(self, store: Store | None = None, workers: int | None = None) -> Results:
        """Carry out what the store does not have, side by side, and collect all.

        Args:
            store: where runs are looked for and kept; by default the store in this machine's home.
            workers: processes; by default one for each GPU or, without any, for each CPU.
        """
        runs = execute_all(self.recipes, store or Store(), workers)
        warn_of_changed_images(runs)
        return Results(runs, self.label)

    def published(self, profile: str) -> Results:
        """The results as they were published for a profile, without training anything.

        Raises:
            FileNotFoundError: a run that was not published; says how many lack.
        """
        store = published(profile)
        lacking = sum(store.find(recipe) is None for recipe in self.recipes)
        if lacking:
            raise FileNotFoundError(
                f"{lacking} of these {len(self.recipes)} runs are not among those published of profile "
                f"{profile_name(profile)!r}: "
                "run the chapter without published=True, or with the profile's own parameters"
            )
        found = self.find(store)
        assert found is not None
        return found

    def find(self, store: Store) -> Results | None:
        """The results, where the store has all runs; None where one is missing. Their networks cannot be asked for."""
        runs = [run for recipe in self.recipes if (run := store.find(recipe))]
        if len(runs) < len(self.recipes):
            return None
        return Results([replace(run, build=_without_weights) for run in runs], self.label)


class WithoutWeightsError(FileNotFoundError):
    """Something that was not measured is asked of runs that are read from their records alone."""


def _without_weights() -> nn.Module:
    raise WithoutWeightsError(
        "these runs are read from their records alone, and what is asked was not measured on them: run the chapter "
        "without published=True, or with the profile's own parameters"
    )


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Who teaches whom, and how: a profile's lists, or what a caller gives instead.

    Args:
        profile: the scale, by its name or file; what is None below is as it has it, for this chapter or else for all.
        chapter: for which chapter.
        teachers, students, objectives: names.
        teacher_seeds: one trained instance of each teacher for each.
        seeds: one student for each.

    Raises:
        KeyError: an unknown profile.
        TypeError, ValueError: an argument that is not a list, or empty, or names something twice.
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
        """The profile itself."""
        return Profile.load(self.profile)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the profile says for this chapter."""
        return self.scale.chapters.get(self.chapter, {})

    def teacher_recipes(self, **overrides: Any) -> list[Recipe]:
        """A recipe for every teacher and instance of it."""
        return [
            self.scale.teacher_recipe(model, seed=seed, **overrides)
            for model in self.teachers or ()
            for seed in self.teacher_seeds or ()
        ]

    def student_recipes(
        self, teachers: Sequence[Recipe], hows: Sequence[Mapping[str, Any]] | None = None, **overrides: Any
    ) -> list[Recipe]:
        """Every student alone, and taught by each of some teachers in each of some ways, over seeds.

        Args:
            teachers: recipes of the teachers.
            hows: recipe fields of each way to teach, `objective` among them; by default one for each objective.
            overrides: recipe fields of every student.
        """
        ways = [{"objective": name} for name in self.objectives or ()] if hows is None else hows
        each = [(model, seed) for model in self.students or () for seed in self.seeds or ()]
        recipe = self.scale.student_recipe
        alone = [recipe(model, seed=seed, **overrides) for model, seed in each]
        taught = [
            recipe(model, seed=seed, **{"teacher": teacher, **overrides, **way})
            for teacher in teachers
            for way in ways
            for model, seed in each
        ]
        return [*alone, *taught]


def listed(
    name: str,
    given: Sequence[Any] | None,
    default: list[Any],
    kind: type | tuple[type, ...],
    known: Collection[str] | None = None,
) -> list[Any]:
    """A list that a caller gave, checked, or the default.

    Raises:
        KeyError: an entry that is not among the known names.
        TypeError: not a list, or entries of another kind.
        ValueError: empty, or something named twice.
    """
    if given is None:
        return default
    check_list(name, given, kind)
    for entry in given:
        if known is not None and entry not in known:
            raise KeyError(unknown(f"entry of {name}", entry, known))
    return list(given)


def unique(recipes: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """Each recipe once, in the order of its first place."""
    return tuple(dict.fromkeys(recipes))
