"""Comparisons: the tables of the paper, and effects with their uncertainty."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy

from lkd.metrics import spread

ARCHITECTURE = ("teacher", "kernel", "size")
"""Columns of a teacher's architecture, as far as a table has them."""

REPLICATES = ("teacher_seed", "seed")
"""Columns of replicates: trained instances of the teachers; initial weights and streams of the students."""


class MissingRowsError(ValueError):
    """Rows of a comparison are missing in a table."""


class Effect(NamedTuple):
    """A mean difference, its standard error and degrees of freedom, and the number of seeds behind it."""

    mean: float
    error: float
    freedom: float
    teacher_seeds: int
    seeds: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's t confidence interval of the mean; NaN without repetitions."""
        half = scipy.stats.t.ppf((1 + level) / 2, self.freedom).item() * self.error
        return self.mean - half, self.mean + half


def effect(
    table: pd.DataFrame,
    value: str,
    high: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    low: Mapping[str, Sequence[Any]] | None = None,
) -> Effect:
    """Mean difference of a column between two groups of rows, with its uncertainty.

    The design crosses trained instances of the teachers with seeds of the students; a seed stands for initial weights,
    stream, and subset of the training images. Entries of `high` or `low` have equal weight. Students, methods and
    architectures are fixed effects.

    The difference is `sum_a z_a`, with a share `z_a` of each teacher architecture `a`. Its squared standard error is
    `sum_a s2_a / n_a + s2 / n`: `s2_a` is the variance of `z_a` over `n_a` instances (means over seeds), `s2` the
    variance of the difference over `n` seeds (means over instances). It is slightly conservative. A factor with a
    single level adds nothing, and the interval does not cover it. Degrees of freedom follow Satterthwaite.

    Args:
        table: tidy table with one row per run and columns `teacher_seed` and `seed`; the architecture of a teacher is
            given by the columns `teacher`, `kernel` and `size`, as far as the table has them.
        value: name of the column.
        high, low: entries of each side, by column; none are all rows. Without `low`, the result is the mean of `high`.

    Raises:
        MissingRowsError: a side without values, or a missing pair of instance and seed.

    Example:
        >>> import pandas as pd
        >>> from lkd.study import effect
        >>> rows = {"teacher": list("abab"), "teacher_seed": 0, "seed": [0, 0, 1, 1], "gain": [2.0, 1.0, 4.0, 1.0]}
        >>> effect(pd.DataFrame(rows), "gain", {"teacher": ["a"]}, {"teacher": ["b"]}).mean
        2.0
    """
    return crossed(shares(table, value, high, low))


def shares(
    table: pd.DataFrame,
    value: str,
    high: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    low: Mapping[str, Sequence[Any]] | None = None,
) -> np.ndarray:
    """The part of each teacher architecture in the difference of `effect`, shape (architectures, instances, seeds)."""
    by_teacher = _shares(table, value, high)
    if low is not None:
        other = _shares(table, value, low)
        if not by_teacher.columns.equals(other.columns):
            raise MissingRowsError(f"{dict(high)} and {dict(low)} have different seeds: run the missing ones")
        by_teacher = by_teacher.sub(other, fill_value=0)
    instances, seeds = (by_teacher.columns.unique(name) for name in REPLICATES)
    return by_teacher.to_numpy().reshape(len(by_teacher), len(instances), len(seeds))


def crossed(shares: np.ndarray) -> Effect:
    """The effect of a crossed design.

    Args:
        shares: the part of each teacher architecture in a difference, shape (architectures, instances, seeds).
    """
    grid = shares.sum(0)
    means = [*shares.mean(2), grid.mean(0)]
    parts = [(each.var(ddof=1) / len(each), len(each) - 1) for each in means if len(each) > 1]
    if not parts:
        return Effect(grid.mean().item(), math.nan, 0, *grid.shape)
    squared = float(sum(part for part, _ in parts))
    freedom = squared**2 / sum(part**2 / n for part, n in parts) if squared else max(n for _, n in parts)
    return Effect(grid.mean().item(), squared**0.5, float(freedom), *grid.shape)


def _shares(table: pd.DataFrame, value: str, chosen: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """The part of each teacher architecture (rows) in the mean of a side, by instance and seed (columns)."""
    rows = table.dropna(subset=value)
    for column, names in chosen.items():
        rows = rows[rows[column].isin(list(names))]
    if rows.empty:
        raise MissingRowsError(f"no row has {dict(chosen)}")
    architecture = [name for name in ARCHITECTURE if name in rows]
    if not architecture:
        rows, architecture = rows.assign(teacher=""), ["teacher"]
    pairs = len(rows[[*REPLICATES]].drop_duplicates())
    entries = len(rows[[*chosen]].drop_duplicates()) if chosen else 1
    of_entry = rows.groupby([*chosen, *REPLICATES])[value]
    by_teacher = rows.assign(share=rows[value] / of_entry.transform("size") / entries)
    parts = by_teacher.groupby([*architecture, *REPLICATES]).share.sum().unstack(list(REPLICATES)).sort_index(axis=1)
    whole = pairs == math.prod(len(parts.columns.unique(name)) for name in REPLICATES)
    if of_entry.ngroups < pairs * entries or parts.isna().any(axis=None) or not whole:
        raise MissingRowsError(f"entries of {dict(chosen)} have different instances or seeds: run the missing ones")
    return parts


def paper_tables(gains: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The table of L2S section 4.1 for each student: one row per teacher and method, as mean ± sd over runs.

    Accuracies and the effective gain are in percent, the direct gain is in points.
    """
    return {student: _paper_table(rows) for student, rows in gains.groupby("student", sort=False)}


def _paper_table(gains: pd.DataFrame) -> pd.DataFrame:
    """Each teacher and each baseline counts once, although several rows repeat it."""
    cell = ["teacher", "objective"]
    columns = {
        "teacher top-1": ("teacher_top1", ["teacher_seed"]),
        "alone": ("student_top1", ["seed"]),
        "distilled": ("distilled_top1", ["teacher_seed", "seed"]),
        "direct gain": ("direct_gain", ["teacher_seed", "seed"]),
        "effective gain": ("effective_gain", ["teacher_seed", "seed"]),
    }
    table = {
        name: gains.drop_duplicates([*cell, *once]).groupby(cell, sort=False)[column].agg(_mean_and_sd)
        for name, (column, once) in columns.items()
    }
    runs = gains.groupby(cell, sort=False).size()
    return pd.DataFrame({**table, "runs": runs}).reset_index().rename(columns={"objective": "method"})


def compared(gains: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Gain of one teacher's students over each other teacher's, in points, with the 95 % interval of `effect`.

    Args:
        gains: `Results.gains` of a study.
        reference: the teacher that others are compared with.

    Returns:
        One row per other teacher: difference, interval, numbers of teacher instances and student seeds, and the
        difference in the teachers' own accuracy.
    """
    accuracy = gains.groupby("teacher").teacher_top1.mean()
    rows = []
    for other in gains.teacher.unique():
        if other == reference:
            continue
        found = effect(gains, "direct_gain", {"teacher": [reference]}, {"teacher": [other]})
        low, high = found.interval()
        rows.append(
            {
                "compared with": other,
                "difference": found.mean,
                "95 % low": low,
                "95 % high": high,
                "teacher instances": found.teacher_seeds,
                "student seeds": found.seeds,
                "teacher's own difference": accuracy[reference] - accuracy[other],
            }
        )
    return pd.DataFrame(rows, columns=_COMPARED)


def accuracy_regression(gains: pd.DataFrame, teachers: Sequence[str]) -> pd.DataFrame:
    """Least squares of the students' gain on the kind and the accuracy of their teacher, over all trained teachers.

    `gain = c + a [teacher is one of teachers] + b (teacher_top1 - mean)`, one value per instance of a teacher: the mean
    gain of its students. Intervals treat instances as independent, although they share the seeds of their students.

    Args:
        gains: `Results.gains` of a study.
        teachers: teachers of one kind, modern ConvNets for example.

    Returns:
        One row for `a` (in points) and one for `b` (in points per point of the teacher's accuracy), with 95 % intervals
        and the number of instances; empty for fewer than four instances, or instances of one kind.
    """
    from statsmodels.api import OLS

    means = gains.groupby(["teacher", "teacher_seed"])[["direct_gain", "teacher_top1"]].mean().reset_index()
    kind, accuracy = means.teacher.isin(list(teachers)).astype(float), means.teacher_top1 - means.teacher_top1.mean()
    if len(means) < 4 or kind.nunique() < 2:
        return pd.DataFrame()
    fit = OLS(means.direct_gain.to_numpy(), np.column_stack([np.ones(len(means)), kind, accuracy])).fit()
    names = ["kind of the teacher, points", "accuracy of the teacher, points per point"]
    return pd.DataFrame(
        {"effect": names, "estimate": fit.params[1:], "instances": len(means)}
        | dict(zip(("95 % low", "95 % high"), fit.conf_int()[1:].T, strict=True))
    )[["effect", "estimate", "95 % low", "95 % high", "instances"]]


_COMPARED = [
    "compared with", "difference", "95 % low", "95 % high", "teacher instances", "student seeds",
    "teacher's own difference",
]  # fmt: skip


def _mean_and_sd(values: pd.Series) -> str:
    if values.isna().all():
        return "–"
    s = spread(values.dropna())
    return f"{s.mean:.2f}" if s.n == 1 else f"{s.mean:.2f} ± {s.sd:.2f}"


def additions(gains: pd.DataFrame, sums: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Gain of a sum of methods over each of its terms, in points, paired by seeds: one row per pair of runs.

    Args:
        gains: `Results.gains` with a column `variant`.
        sums: the terms of each sum, by variant; missing variants are skipped.
    """
    keys = ["student", "teacher", *REPLICATES]
    wide = gains.pivot_table(index=keys, columns="variant", values="direct_gain")
    found = {
        f"{both} over {part}": wide[both] - wide[part]
        for both, parts in sums.items()
        for part in parts
        if {both, part} <= set(wide)
    }
    if not found:
        return pd.DataFrame(columns=[*keys, "difference", "addition"])
    return pd.DataFrame(found).melt(var_name="difference", value_name="addition", ignore_index=False).reset_index()


def with_baseline(gains: pd.DataFrame, alone: str) -> pd.DataFrame:
    """Test accuracies of distilled students and of their baselines, one row each, in a column `top1`.

    Args:
        gains: `Results.gains`.
        alone: entry of the column `teacher` for baselines.
    """
    each = [name for name in ("student", "epochs", "objective", "seed") if name in gains]
    without = gains.drop_duplicates(each).assign(teacher=alone, top1=lambda table: table.student_top1)
    return pd.concat([gains.assign(top1=gains.distilled_top1), without], ignore_index=True)
