"""Functions that build the studies of the chapters."""

from collections.abc import Mapping, Sequence
from typing import Any

from lkd.profiles import Profile
from lkd.profiles.validation import BASELINE_VARIANT, TRAIT_SETTINGS
from lkd.study.grid import Grid, Study, listed, unique


def distillation(
    profile: str = "small",
    *,
    teachers: Sequence[str] | None = None,
    students: Sequence[str] | None = None,
    objectives: Sequence[str] | None = None,
    teacher_seeds: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    train_images: int | None = None,
    epochs: int | None = None,
) -> Study:
    """Every student as a baseline, and distilled from every teacher with every objective.

    Runs of one seed have the same initial weights and stream, with any teacher, and can be compared in pairs.

    Args:
        profile: the scale; arguments that are None below take its values.
        teachers: teacher models, trained from labels first.
        students: student models.
        objectives: names of the distillation objectives.
        teacher_seeds: seeds of the trained instances of each teacher.
        seeds: seeds of the students.
        train_images: number of training images of the students.
        epochs: epochs of the students.

    Raises:
        KeyError: an unknown name, with the nearest known one.
        TypeError, ValueError: an argument that is not a list, an empty list, or an invalid value.
    """
    grid = Grid(
        profile=profile,
        chapter="logit_kd",
        teachers=teachers,
        students=students,
        objectives=objectives,
        teacher_seeds=teacher_seeds,
        seeds=seeds,
    )
    length = {name: value for name, value in (("train_images", train_images), ("epochs", epochs)) if value is not None}
    teacher_recipes = grid.teacher_recipes()
    return Study(unique([*teacher_recipes, *grid.student_recipes(teacher_recipes, None, **length)]))


def matched(profile: str = "small", *, top1: float | None = None, **given: Any) -> Study:
    """Students of teachers with about equal accuracy: a control for differences in teacher accuracy.

    Args:
        profile: the scale; its `recipes` for this study give teachers of about equal validation accuracy.
        top1: instead, stop each teacher at this validation accuracy, in percent.
        given: `teachers`, `students`, `objectives`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter="matched", **given)
    fields = grid.settings["recipes"] if top1 is None else {}
    teacher_recipes = [
        grid.scale.teacher_recipe(model, seed=seed, **(fields.get(model, {}) if top1 is None else {"stop_top1": top1}))
        for model in grid.teachers or ()
        for seed in grid.teacher_seeds or ()
    ]
    return Study(unique([*teacher_recipes, *grid.student_recipes(teacher_recipes)]))


def method_variants(
    profile: str = "small", *, chapter: str, variants: Sequence[str] | None = None, **given: Any
) -> Study:
    """Students distilled with each variant of a chapter's methods.

    Args:
        chapter: a chapter with `variants` in the profile.
        variants: names of variants; by default all.
        given: `teachers`, `students`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter=chapter, **given)
    chosen = _chosen(grid.scale, chapter, "variants", variants)
    teacher_recipes = grid.teacher_recipes()
    labels = {
        recipe: {"variant": name, "maps": recipe.make_objective().stages}
        for name, method in chosen.items()
        for recipe in grid.student_recipes(teacher_recipes, [grid.scale.method_fields(method)])
    }
    return Study(unique([*teacher_recipes, *labels]), lambda recipe: labels[recipe])


def schedule_lengths(profile: str = "small", *, factors: Sequence[float] | None = None, **given: Any) -> Study:
    """The same students with schedules of several lengths.

    Args:
        factors: lengths as multiples of the profile's epochs; the paper has 1 and 2.5 (120 and 300 epochs).
        given: `teachers`, `students`, `objectives`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter="longer_training", **given)
    base = int(grid.scale.student["epochs"])
    lengths = [round(base * factor) for factor in listed("factors", factors, grid.settings["factors"], (int, float))]
    teacher_recipes = grid.teacher_recipes()
    recipes = [recipe for epochs in lengths for recipe in grid.student_recipes(teacher_recipes, epochs=epochs)]
    return Study(unique([*teacher_recipes, *recipes]), lambda recipe: {"epochs": recipe.epochs})


def kd_variants(
    profile: str = "small",
    *,
    sizes: Sequence[int] | None = None,
    strengths: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
    **given: Any,
) -> Study:
    """Vanilla KD and its variants, over training-set sizes and recipe strengths.

    A recipe's epochs refer to the largest of the profile's sizes. Smaller training sets get more epochs, for an equal
    number of steps.

    Args:
        profile: the scale. Its `pairs`, if any, are the pairs of size and recipe to run by default, instead of all.
        sizes: numbers of training images of the students.
        strengths: names of the profile's recipes of this chapter; by default all.
        variants: names of the profile's methods of this chapter; `BASELINE_VARIANT` is always included.
        given: `teachers`, `students`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter="vanilla_kd", **given)
    pairs = grid.settings.get("pairs") if sizes is None and strengths is None else None
    sizes = listed("sizes", sizes, grid.settings["sizes"], int)
    recipes = _chosen(grid.scale, "vanilla_kd", "strengths", strengths)
    pairs = pairs or [(size, strength) for strength in recipes for size in sizes]
    plain = {BASELINE_VARIANT: grid.settings["variants"][BASELINE_VARIANT]}
    chosen = plain | _chosen(grid.scale, "vanilla_kd", "variants", variants)
    teacher_recipes, largest = grid.teacher_recipes(), max(grid.settings["sizes"])
    labels = {
        recipe: {"train_images": size, "strength": strength, "variant": name}
        for size, strength in pairs
        for fields in [recipes[strength]]
        for length in [{"train_images": size, "epochs": max(1, round(fields["epochs"] * largest / size))}]
        for name, method in chosen.items()
        for recipe in grid.student_recipes(teacher_recipes, [grid.scale.method_fields(method)], **{**fields, **length})
    }
    return Study(unique([*teacher_recipes, *labels]), lambda recipe: labels[recipe])


def kernel_sizes(profile: str = "small", *, sizes: Sequence[str] | None = None, **given: Any) -> Study:
    """Teachers of several kernel sizes, and students of each, with measured traits.

    Args:
        sizes: names of the profile's kernel sizes; by default all.
        given: `students`, `objectives`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter="kernel_size", **given)
    study, settings = _forms("kernel", grid, sizes), _traits(grid.scale)
    return Study(study.recipes, lambda recipe: {**study.label(recipe), **settings})


def trait_study(profile: str = "small", **given: Any) -> Study:
    """Teachers, baselines and distilled students with measured traits; `logit_kd` shares these runs.

    Args:
        given: `teachers`, `students`, `objectives`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter="traits", **given)
    teacher_recipes, settings = grid.teacher_recipes(), _traits(grid.scale)
    return Study(unique([*teacher_recipes, *grid.student_recipes(teacher_recipes)]), lambda recipe: settings)


def teacher_sizes(profile: str = "small", *, sizes: Sequence[str] | None = None, **given: Any) -> Study:
    """Teachers of several sizes, and students of each.

    Args:
        sizes: names of the profile's teacher sizes; by default all.
        given: `students`, `objectives`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    return _forms("size", Grid(profile=profile, chapter="teacher_size", **given), sizes)


def _forms(column: str, grid: Grid, sizes: Sequence[str] | None) -> Study:
    """Teachers of several forms and students of each, with the name of the form in a column."""
    forms = _chosen(grid.scale, grid.chapter, "sizes", sizes)
    teachers = {
        grid.scale.teacher_recipe(seed=seed, **form): {column: size}
        for size, form in forms.items()
        for seed in grid.teacher_seeds or ()
    }
    labels = {recipe: label for teacher, label in teachers.items() for recipe in grid.student_recipes([teacher])}
    return Study(unique([*teachers, *labels]), lambda recipe: labels[recipe])


def _traits(scale: Profile) -> dict[str, int | None]:
    return {name: scale.chapters["traits"][name] for name in TRAIT_SETTINGS}


def _chosen(scale: Profile, chapter: str, name: str, given: Sequence[str] | None) -> dict[str, Mapping[str, Any]]:
    """The chosen entries of a chapter's named settings, by default all."""
    known = scale.chapters[chapter][name]
    return {key: known[key] for key in listed(name, given, list(known), str, known)}
