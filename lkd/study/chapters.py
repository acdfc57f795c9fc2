"""What claims are judged by: the studies of the chapters, and the tidy tables that come of them."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pandas as pd

from lkd.recipe import Recipe
from lkd.runs.store import Run, Store
from lkd.study import (
    Results,
    Study,
    distillation,
    kd_variants,
    kernel_sizes,
    learning_speed,
    matched,
    method_variants,
    schedule_lengths,
    teacher_sizes,
    trait_study,
)
from lkd.study.grid import WithoutWeightsError
from lkd.study.studies import BASELINE_VARIANT
from lkd.study.trait_tables import erf_table, robustness_table
from lkd.util.checks import unknown

STUDIES: dict[str, Callable[..., Study]] = {
    "logit_kd": distillation,
    "matched": matched,
    "feature_kd": partial(method_variants, chapter="feature_kd"),
    "released_code": partial(method_variants, chapter="released_code"),
    "longer_training": schedule_lengths,
    "erf": trait_study,
    "robustness": trait_study,
    "kernel_size": kernel_sizes,
    "teacher_size": teacher_sizes,
    "vanilla_kd": kd_variants,
}
"""By name, the study of a profile; takes what chapters let a reader choose."""

CHAPTERS = {
    "logit_kd": ("logit_kd", "matched"),
    "feature_kd": ("feature_kd",),
    "longer_training": ("longer_training",),
    "erf": ("erf",),
    "robustness": ("robustness",),
    "vanilla_kd": ("vanilla_kd", "teacher_size"),
    "kernel_size": ("kernel_size",),
    "released_code": ("released_code",),
    "your_own": (),
}
"""By chapter, the studies that it asks."""

_GRID = ("teachers", "students", "objectives", "teacher_seeds", "seeds")
_WITHOUT_OBJECTIVES = ("teachers", "students", "teacher_seeds", "seeds")
PARAMETERS = {
    "logit_kd": (*_GRID, "train_images", "epochs"),
    "feature_kd": (*_WITHOUT_OBJECTIVES, "variants"),
    "longer_training": (*_GRID, "factors"),
    "erf": _GRID,
    "robustness": _GRID,
    "vanilla_kd": (*_WITHOUT_OBJECTIVES, "sizes", "strengths", "variants"),
    "kernel_size": ("sizes", "students", "objectives", "teacher_seeds", "seeds"),
    "released_code": (*_WITHOUT_OBJECTIVES, "variants"),
}
"""By chapter that asks studies, those of its parameters that say which runs these are."""

_OF_CONTROLS = ("teacher_seeds", "seeds")
"""Parameters that a chapter hands on to the studies that it asks after its first."""


def studies_of(chapter: str, profile: str, **given: Any) -> list[Study]:
    """The studies that a chapter asks, in its order.

    Args:
        chapter: its name.
        profile: the scale.
        given: the chapter's parameters that choose runs. The first study has all of them; those that come after it are
            controls, which have the seeds alone.

    Raises:
        KeyError: an unknown chapter, profile or parameter, with the nearest known name.
        TypeError, ValueError: a parameter that makes no sense.

    Example:
        >>> from lkd.study.chapters import studies_of
        >>> [len(study.recipes) for study in studies_of("vanilla_kd", "smoke", seeds=[0])]
        [21, 7]
    """
    if chapter not in CHAPTERS:
        raise KeyError(unknown("chapter", chapter, CHAPTERS))
    known = PARAMETERS.get(chapter, ())
    for name in given:
        if name not in known:
            raise KeyError(unknown(f"parameter of the study of chapter {chapter!r}", name, known))
    handed_on = {name: value for name, value in given.items() if name in _OF_CONTROLS}
    return [STUDIES[name](profile, **(handed_on if number else given)) for number, name in enumerate(CHAPTERS[chapter])]


def gains(results: Results) -> pd.DataFrame:
    """`Results.gains`; where schedules differ as the paper's do, 2.5 times, `length` says which is the longest."""
    table = results.gains
    if "epochs" not in table:
        return table
    longest = (table.epochs == table.epochs.max()) & (table.epochs.max() >= 2.5 * table.epochs.min())
    return table.assign(length=longest.map({True: "longest", False: "shorter"}))


def gaps(results: Results) -> pd.DataFrame:
    """One row a student of a variant: by how much it is better than that of vanilla KD with BCE, in points.

    `scale` names the corners of the grid: least and most data with the weak and the strong recipe.
    """
    table = results.gains
    keys = ["train_images", "strength", "student", "teacher", "teacher_seed", "seed"]
    plain = table[table.variant == BASELINE_VARIANT].set_index(keys).distilled_top1
    rest = table[table.variant != BASELINE_VARIANT]
    gap = rest.distilled_top1.to_numpy() - plain.loc[pd.MultiIndex.from_frame(rest[keys])].to_numpy()
    least, most = rest.train_images.min(), rest.train_images.max()
    amount = {least: "least data", most: "most data"} if least < most else {}
    both = rest.train_images, rest.strength
    scale = [f"{amount.get(size, 'other data')}, {recipe}" for size, recipe in zip(*both, strict=True)]
    return rest.assign(gap=gap, scale=scale)


TABLES: dict[str, Callable[[Results], pd.DataFrame]] = {
    "gains": gains,
    "speed": learning_speed,
    "gaps": gaps,
    "erf": erf_table,
    "robustness": robustness_table,
}
"""By name, a table of a study's results."""


MEASURED = {"erf": erf_table, "robustness": robustness_table, "kernel_size": erf_table}
"""By study, a table that needs more than the runs: that something was measured on them."""


def complete(name: str, profile: str, store: Store) -> bool:
    """Whether a store has all runs of a study, and what its chapter needs to have been measured on them."""
    results = STUDIES[name](profile).find(store)
    try:
        return results is not None and (name not in MEASURED or len(MEASURED[name](results)) > 0)
    except WithoutWeightsError:
        return False


def costs(profile: str, store: Store) -> pd.DataFrame:
    """One row a chapter of which a store has all runs: how many, and minutes of one CPU core; then all of them.

    All of them stand there twice: as the store carries them out, each run once, and as they would be carried out one
    chapter after the other without it.
    """
    found = {name: _runs(studies, profile, store) for name, studies in CHAPTERS.items()}
    done = {name: runs for name, runs in found.items() if runs and all(runs.values())}
    once = {recipe: run for runs in done.values() for recipe, run in runs.items()}
    again = {(name, recipe): run for name, runs in done.items() for recipe, run in runs.items()}
    sums: dict[str, Mapping[Any, Run | None]] = {"all, each run once": once, "all, one chapter after the other": again}
    return pd.DataFrame(
        [
            {"chapter": name, "runs": len(runs), "minutes": _minutes(runs.values())}
            for name, runs in [*done.items(), *sums.items()]
        ]
    )


def _runs(studies: Iterable[str], profile: str, store: Store) -> dict[Recipe, Run | None]:
    return {recipe: store.find(recipe) for name in studies for recipe in STUDIES[name](profile).recipes}


def _minutes(runs: Iterable[Run | None]) -> float:
    return sum(run.provenance["seconds"] for run in runs if run) / 60
