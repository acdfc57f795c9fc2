"""The book's chapters, their studies, and the tables for claims."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

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
from lkd.study.measure import NotMeasuredError
from lkd.study.studies import BASELINE_VARIANT
from lkd.study.trait_tables import erf_table, robustness_table
from lkd.util.checks import unknown

_SEEDS = ("teacher_seeds", "seeds")
_MODELS = ("teachers", "students", *_SEEDS)
_GRID = ("teachers", "students", "objectives", *_SEEDS)


@dataclass(frozen=True)
class Chapter:
    """The runs of a chapter.

    Args:
        studies: functions that build a study from a profile, by name. The first takes all `parameters`; the others are
            controls and take the seeds only.
        parameters: the notebook's parameters that choose runs.
        measured: the table of traits that are measured on the trained models, if any.
    """

    studies: Mapping[str, Callable[..., Study]] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    measured: Callable[[Results], pd.DataFrame] | None = None


CHAPTERS = {
    "logit_kd": Chapter({"logit_kd": distillation, "matched": matched}, (*_GRID, "train_images", "epochs")),
    "feature_kd": Chapter({"feature_kd": partial(method_variants, chapter="feature_kd")}, (*_MODELS, "variants")),
    "longer_training": Chapter({"longer_training": schedule_lengths}, (*_GRID, "factors")),
    "kernel_size": Chapter(
        {"kernel_size": kernel_sizes}, ("sizes", "students", "objectives", *_SEEDS), measured=erf_table
    ),
    "erf": Chapter({"erf": trait_study}, _GRID, erf_table),
    "robustness": Chapter({"robustness": trait_study}, _GRID, robustness_table),
    "vanilla_kd": Chapter(
        {"vanilla_kd": kd_variants, "teacher_size": teacher_sizes}, (*_MODELS, "sizes", "strengths", "variants")
    ),
    "released_code": Chapter(
        {"released_code": partial(method_variants, chapter="released_code")}, (*_MODELS, "variants")
    ),
    "your_own": Chapter(),
}
"""All chapters in the order of the book, by the name of their notebook."""

STUDIES = {name: make for chapter in CHAPTERS.values() for name, make in chapter.studies.items()}
"""The functions that build the studies of all chapters, by name."""


def studies_of(chapter: str, profile: str, **given: Any) -> list[Study]:
    """Build the studies of a chapter.

    Args:
        given: values of the chapter's `parameters`. The first study gets all of them, its controls the seeds only.

    Raises:
        KeyError: an unknown chapter, profile or parameter, with the nearest known name.
        TypeError, ValueError: an invalid parameter value.

    Example:
        >>> from lkd.study.chapters import studies_of
        >>> [len(study.recipes) for study in studies_of("vanilla_kd", "smoke", seeds=[0])]
        [21, 7]
    """
    if chapter not in CHAPTERS:
        raise KeyError(unknown("chapter", chapter, CHAPTERS))
    entry = CHAPTERS[chapter]
    for name in given:
        if name not in entry.parameters:
            raise KeyError(unknown(f"parameter of the study of chapter {chapter!r}", name, entry.parameters))
    seeds = {name: value for name, value in given.items() if name in _SEEDS}
    return [STUDIES[name](profile, **(seeds if number else given)) for number, name in enumerate(entry.studies)]


def gains(results: Results) -> pd.DataFrame:
    """`Results.gains` with a column `length` for studies with several schedules.

    The longest schedule is "longest" if it has at least 2.5 times the epochs of the shortest, as in the paper. All
    others are "shorter".
    """
    table = results.gains
    if "epochs" not in table:
        return table
    longest = (table.epochs == table.epochs.max()) & (table.epochs.max() >= 2.5 * table.epochs.min())
    return table.assign(length=longest.map({True: "longest", False: "shorter"}))


def gaps(results: Results) -> pd.DataFrame:
    """Gap of each student to vanilla KD with BCE, in points: one row per run of another variant.

    `scale` names the corners of the grid: least and most data, with the weak and the strong recipe.
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


def same_data(results: Results) -> pd.DataFrame:
    """`Results.gains` of the training-set sizes that were run with every recipe strength."""
    table = results.gains
    strengths = table.groupby("train_images").strength.transform("nunique")
    return table[strengths == table.strength.nunique()]


TABLES: dict[str, Callable[[Results], pd.DataFrame]] = {
    "gains": gains,
    "speed": learning_speed,
    "gaps": gaps,
    "same_data": same_data,
    "erf": erf_table,
    "robustness": robustness_table,
}
"""Tables of a study's results that claims refer to, by name."""


def complete(study: str, profile: str, store: Store) -> bool:
    """Whether a store has all runs of a study and the measurements for its chapter."""
    measured = next(chapter.measured for chapter in CHAPTERS.values() if study in chapter.studies)
    results = STUDIES[study](profile).find(store)
    try:
        return results is not None and (measured is None or len(measured(results)) > 0)
    except NotMeasuredError:
        return False


def costs(profile: str, store: Store) -> pd.DataFrame:
    """Runs and CPU minutes (one core) of each chapter with all its runs in a store, one row each, then two totals.

    Chapters share runs: the first total counts each run once, the second once per chapter.
    """
    done: dict[str, dict[Any, Run]] = {}
    for name, chapter in CHAPTERS.items():
        recipes = dict.fromkeys(recipe for study in chapter.studies for recipe in STUDIES[study](profile).recipes)
        runs = {recipe: run for recipe in recipes if (run := store.find(recipe))}
        if runs and len(runs) == len(recipes):
            done[name] = runs
    every = [item for runs in done.values() for item in runs.items()]
    groups = {name: list(runs.values()) for name, runs in done.items()}
    groups["all, each run once"] = list(dict(every).values())
    groups["all, one chapter after the other"] = [run for _, run in every]
    seconds = {name: [run.provenance["seconds"] for run in runs] for name, runs in groups.items()}
    return pd.DataFrame(
        [{"chapter": name, "runs": len(each), "minutes": sum(each) / 60} for name, each in seconds.items()]
    )
