"""The questions of the chapters, each as a study: which recipes answer it."""

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
    """Every student alone, and taught by every teacher with every objective, over seeds.

    A student has the same initial weights and sees the same stream whoever teaches it, so that runs of one seed make
    pairs.

    Args:
        profile: the scale; what is None below is as the profile has it.
        teachers: models that teach, each trained from labels first.
        students: models that learn.
        objectives: how the teachers are used.
        teacher_seeds: one trained instance of each teacher for each.
        seeds: one student for each.
        train_images: images that students learn from.
        epochs: passes of the students over them.

    Raises:
        KeyError: an unknown name, with the nearest known one.
        TypeError, ValueError: an argument that is not a list, or empty, or a value that makes no sense.
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
    taught = grid.teacher_recipes()
    return Study(unique([*taught, *grid.student_recipes(taught, None, **length)]))


def matched(profile: str = "small", *, top1: float | None = None, **given: Any) -> Study:
    """Teachers stopped at equal validation accuracy, and what their students gain: the control for better teachers.

    Args:
        profile: the scale.
        top1: the accuracy, in percent; by default the profile's.
        given: `teachers`, `students`, `objectives`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter="matched", **given)
    taught = grid.teacher_recipes(stop_top1=grid.settings.get("stop_top1") if top1 is None else top1)
    return Study(unique([*taught, *grid.student_recipes(taught)]))


def method_variants(
    profile: str = "small", *, chapter: str, variants: Sequence[str] | None = None, **given: Any
) -> Study:
    """Students taught in each of a chapter's named ways: by feature maps, by logits, as published, as meant.

    Args:
        profile: the scale.
        chapter: whose ways; it has `variants` in the profile.
        variants: names among them.
        given: `teachers`, `students`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter=chapter, **given)
    chosen = _chosen(grid.scale, chapter, "variants", variants)
    taught = grid.teacher_recipes()
    made = {
        recipe: {"variant": name, "maps": recipe.make_objective().stages}
        for name, way in chosen.items()
        for recipe in grid.student_recipes(taught, [grid.scale.way(way)])
    }
    return Study(unique([*taught, *made]), lambda recipe: made[recipe])


def schedule_lengths(profile: str = "small", *, factors: Sequence[float] | None = None, **given: Any) -> Study:
    """The same students over growing schedules.

    Args:
        profile: the scale.
        factors: lengths, in the profile's own; those of the paper are 1 and 2.5 (120 and 300 epochs).
        given: `teachers`, `students`, `objectives`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter="longer_training", **given)
    base = int(grid.scale.student["epochs"])
    lengths = [round(base * factor) for factor in listed("factors", factors, grid.settings["factors"], (int, float))]
    taught = grid.teacher_recipes()
    recipes = [recipe for epochs in lengths for recipe in grid.student_recipes(taught, epochs=epochs)]
    return Study(unique([*taught, *recipes]), lambda recipe: {"epochs": recipe.epochs})


def kd_variants(
    profile: str = "small",
    *,
    sizes: Sequence[int] | None = None,
    strengths: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
    **given: Any,
) -> Study:
    """Plain KD against its elaborate variants, over training-set sizes and recipe strengths.

    A recipe's epochs are passes over the largest of the profile's sizes; fewer images are passed over more often, so
    that students of every size are trained for as many steps.

    Args:
        profile: the scale.
        sizes: numbers of training images of the students.
        strengths: names among the profile's recipes of this chapter.
        variants: names among the profile's ways to teach of this chapter; that of `BASELINE_VARIANT` is always there.
        given: `teachers`, `students`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter="vanilla_kd", **given)
    sizes = listed("sizes", sizes, grid.settings["sizes"], int)
    recipes = _chosen(grid.scale, "vanilla_kd", "strengths", strengths)
    plain = {BASELINE_VARIANT: grid.settings["variants"][BASELINE_VARIANT]}
    chosen = plain | _chosen(grid.scale, "vanilla_kd", "variants", variants)
    taught, largest = grid.teacher_recipes(), max(grid.settings["sizes"])
    made = {
        recipe: {"train_images": size, "strength": strength, "variant": name}
        for strength, fields in recipes.items()
        for size in sizes
        for length in [{"train_images": size, "epochs": max(1, round(fields["epochs"] * largest / size))}]
        for name, way in chosen.items()
        for recipe in grid.student_recipes(taught, [grid.scale.way(way)], **{**fields, **length})
    }
    return Study(unique([*taught, *made]), lambda recipe: made[recipe])


def kernel_sizes(profile: str = "small", *, sizes: Sequence[str] | None = None, **given: Any) -> Study:
    """The same teacher with kernels from 3 to larger than the map, and a student of each, to be measured as well.

    Args:
        profile: the scale.
        sizes: names among the profile's kernel sizes of this chapter.
        given: `students`, `objectives`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter="kernel_size", **given)
    study, settings = _forms("kernel", grid, sizes), _traits(grid.scale)
    return Study(study.recipes, lambda recipe: {**study.label(recipe), **settings})


def trait_study(profile: str = "small", **given: Any) -> Study:
    """The teachers, students alone and distilled students whose traits are measured; `logit_kd` has trained them.

    Args:
        profile: the scale.
        given: `teachers`, `students`, `objectives`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter="traits", **given)
    taught, settings = grid.teacher_recipes(), _traits(grid.scale)
    return Study(unique([*taught, *grid.student_recipes(taught)]), lambda recipe: settings)


def teacher_sizes(profile: str = "small", *, sizes: Sequence[str] | None = None, **given: Any) -> Study:
    """Teachers of growing size, and a student of each.

    Args:
        profile: the scale.
        sizes: names among the profile's teacher sizes.
        given: `students`, `objectives`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    return _forms("size", Grid(profile=profile, chapter="teacher_size", **given), sizes)


def _forms(column: str, grid: Grid, sizes: Sequence[str] | None) -> Study:
    """Forms of a teacher and a student of each, the form in a column."""
    forms = _chosen(grid.scale, grid.chapter, "sizes", sizes)
    made = {
        grid.scale.teacher_recipe(seed=seed, **form): {column: size}
        for size, form in forms.items()
        for seed in grid.teacher_seeds or ()
    }
    pupils = {recipe: made[teacher] for teacher in made for recipe in grid.student_recipes([teacher])}
    return Study(unique([*made, *pupils]), lambda recipe: pupils[recipe])


def _traits(scale: Profile) -> dict[str, int | None]:
    return {name: scale.chapters["traits"][name] for name in TRAIT_SETTINGS}


def _chosen(scale: Profile, chapter: str, name: str, given: Sequence[str] | None) -> dict[str, Mapping[str, Any]]:
    """Those of a chapter's named settings that a caller gave, or all."""
    known = scale.chapters[chapter][name]
    return {key: known[key] for key in listed(name, given, list(known), str, known)}
