"""Comparisons: tables as the paper has them, and effects with their uncertainty."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from scipy import stats

from lkd.metrics import Spread, spread

REPLICATES = ("teacher_seed", "seed")
"""What is drawn anew: trained instances of the teachers, and the students' initial weights with their streams."""


class LackingError(ValueError):
    """A table that lacks what is to be compared."""


class Effect(NamedTuple):
    """A mean difference, its standard error with degrees of freedom, and how much was drawn anew to see it."""

    mean: float
    error: float
    freedom: float
    teacher_seeds: int
    seeds: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The ends of the confidence interval of the mean, by Student's t; NaN where nothing was repeated."""
        half = stats.t.ppf((1 + level) / 2, self.freedom).item() * self.error
        return self.mean - half, self.mean + half


def effect(
    table: pd.DataFrame, value: str, high: Mapping[str, Sequence[Any]], low: Mapping[str, Sequence[Any]] | None = None
) -> Effect:
    """By how much a column is larger in some rows than in others, on average, with its uncertainty.

    Rows are averaged within each pair of a teacher instance and a student seed first, each entry of a choice counting
    the same; what varies within a pair (students, methods, teachers on one side) is part of the question, not of the
    uncertainty. With `s2_t` the variance of the means by teacher instance, of which there are `n_t`, and `s2_s`, `n_s`
    the same by student seed, the squared standard error is `s2_t / n_t + s2_s / n_s`: that of a crossed design in
    which both are drawn at random, without the small term that would make it lower. A factor of which there is only
    one adds nothing, and the interval does not cover it. Degrees of freedom after Satterthwaite.

    Args:
        table: tidy; one row a run, with columns `teacher_seed` and `seed`.
        value: the column.
        high, low: for some columns, the entries that belong to a side; without `low`, the mean of `high` itself.

    Raises:
        KeyError: a column that the table does not have.
        LackingError: a side without rows that have a value, or a pair of instance and seed that only one of them has.

    Example:
        >>> import pandas as pd
        >>> from lkd.study import effect
        >>> rows = {"teacher": list("abab"), "teacher_seed": 0, "seed": [0, 0, 1, 1], "gain": [2.0, 1.0, 4.0, 1.0]}
        >>> effect(pd.DataFrame(rows), "gain", {"teacher": ["a"]}, {"teacher": ["b"]}).mean
        2.0
    """
    pairs = _side(table, value, high)
    if low is not None:
        other = _side(table, value, low)
        if not pairs.index.equals(other.index):
            raise LackingError(f"{dict(high)} and {dict(low)} were not run with the same seeds: run the missing ones")
        pairs = pairs - other
    grid = pairs.unstack("seed")
    means = grid.mean(axis=1), grid.mean(axis=0)
    parts = [(each.var(ddof=1) / len(each), len(each) - 1) for each in means if len(each) > 1]
    if not parts:
        return Effect(pairs.mean().item(), math.nan, 0, *grid.shape)
    squared = float(sum(part for part, _ in parts))
    freedom = squared**2 / sum(part**2 / n for part, n in parts) if squared else max(n for _, n in parts)
    return Effect(pairs.mean().item(), squared**0.5, float(freedom), *grid.shape)


def _side(table: pd.DataFrame, value: str, chosen: Mapping[str, Sequence[Any]]) -> pd.Series:
    """Means by teacher instance and student seed of the chosen rows, each combination of the choice counting once."""
    rows = table.dropna(subset=value)
    for column, entries in chosen.items():
        rows = rows[rows[column].isin(list(entries))]
    if rows.empty:
        raise LackingError(f"no row has {dict(chosen)}")
    cells = rows.groupby([*chosen, *REPLICATES])[value].mean()
    return cells.groupby(list(REPLICATES)).mean().sort_index()


def paper_tables(gains: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The table of L2S section 4.1 for each student: a row for each teacher and method, as mean ± sd over runs.

    Accuracies in per cent, the direct gain in points, the effective gain in per cent.
    """
    return {student: _paper_table(rows) for student, rows in gains.groupby("student", sort=False)}


def _paper_table(gains: pd.DataFrame) -> pd.DataFrame:
    """Each teacher and each student alone counts once, however many runs it stands beside."""
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
    """By how much the students of one teacher gain more than those of each other teacher, in points.

    Gains are averaged over students, methods and teacher instances first, then paired by student seed: the 95 %
    interval is over student seeds alone and does not cover how else a teacher could have turned out.

    Args:
        gains: `Results.gains` of a study.
        reference: the one teacher.

    Returns:
        One row for each other teacher: mean difference, sd, interval, seeds, and how much more accurate the reference
        is itself.
    """
    means = gains.pivot_table(index="seed", columns="teacher", values="direct_gain")
    accuracy = gains.groupby("teacher").teacher_top1.mean()
    rows = [
        {
            "compared with": other,
            **spread(means[reference] - means[other])._asdict(),
            "teacher's own difference": accuracy[reference] - accuracy[other],
        }
        for other in gains.teacher.unique()
        if other != reference
    ]
    columns = ["compared with", *Spread._fields, "teacher's own difference"]
    return pd.DataFrame(rows, columns=columns).rename(columns={"n": "seeds", "low": "95 % low", "high": "95 % high"})


def _mean_and_sd(values: pd.Series) -> str:
    if values.isna().all():
        return "–"
    s = spread(values.dropna())
    return f"{s.mean:.2f}" if s.n == 1 else f"{s.mean:.2f} ± {s.sd:.2f}"


def additions(gains: pd.DataFrame, sums: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """What a way to teach gains over each of its parts, in points, paired by seeds: one row a pair of runs.

    Args:
        gains: `Results.gains` with a column `variant`.
        sums: by variant, the variants that it is made of; those that were not run are left out.
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
    """Test accuracies of distilled students and of those alone, one row each, in a column `top1`.

    Args:
        gains: `Results.gains`.
        alone: what stands in the column of teachers for none.
    """
    each = [name for name in ("student", "epochs", "objective", "seed") if name in gains]
    without = gains.drop_duplicates(each).assign(teacher=alone, top1=lambda table: table.student_top1)
    return pd.concat([gains.assign(top1=gains.distilled_top1), without], ignore_index=True)
