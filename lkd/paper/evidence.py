"""What claims are judged by: the studies of the chapters, and the tidy tables that come of them."""

from collections.abc import Callable
from functools import partial

import pandas as pd

from lkd.study import (
    Results,
    Study,
    distillation,
    growing,
    kernels,
    learning_speed,
    longer,
    matched,
    traits,
    variants_of_kd,
    ways,
)
from lkd.study.inherited import erf_table, robustness_table
from lkd.study.questions import PLAIN

STUDIES: dict[str, Callable[[str], Study]] = {
    "logit_kd": distillation,
    "matched": matched,
    "feature_kd": partial(ways, chapter="feature_kd"),
    "released_code": partial(ways, chapter="released_code"),
    "longer_training": longer,
    "erf": traits,
    "robustness": traits,
    "kernel_size": kernels,
    "teacher_size": growing,
    "vanilla_kd": variants_of_kd,
}
"""By name, the study of a profile."""

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


def gains(results: Results) -> pd.DataFrame:
    """`Results.gains`; where schedules differ, `length` says which is the shortest and which the longest."""
    table = results.gains
    if "epochs" not in table:
        return table
    ends = {table.epochs.min(): "shortest", table.epochs.max(): "longest"}
    return table.assign(length=table.epochs.map(ends))


def gaps(results: Results) -> pd.DataFrame:
    """One row a student of DKD or DIST: by how much it is better than that of vanilla KD with BCE, in points.

    `scale` names the corners of the grid: least and most data with the weak and the strong recipe.
    """
    table = results.gains
    keys = ["train_images", "strength", "student", "teacher", "teacher_seed", "seed"]
    plain = table[table.variant == PLAIN].set_index(keys).distilled_top1
    rest = table[~table.variant.isin([PLAIN, "vanilla KD, CE"])]
    gap = rest.distilled_top1.to_numpy() - plain.loc[pd.MultiIndex.from_frame(rest[keys])].to_numpy()
    amount = {rest.train_images.min(): "least data", rest.train_images.max(): "most data"}
    return rest.assign(gap=gap, scale=rest.train_images.map(amount) + ", " + rest.strength)


TABLES: dict[str, Callable[[Results], pd.DataFrame]] = {
    "gains": gains,
    "speed": learning_speed,
    "gaps": gaps,
    "erf": erf_table,
    "robustness": robustness_table,
}
"""By name, a table of a study's results."""
