"""Figures of merit: what a teacher gives its student, and how sure that is."""

import warnings
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from lkd.util.checks import check_number

Percent = TypeVar("Percent", float, np.ndarray, pd.Series)


def direct_gain(distilled: Percent, student: Percent) -> Percent:
    """What distillation adds to a student's accuracy, `acc(distilled) - acc(student)` (L2S, equation 1).

    Args:
        distilled: accuracy of the student that had a teacher, in percent; a number, or an array or column of them.
        student: accuracy of the same student trained alone, in percent.

    Returns:
        Percentage points.

    Raises:
        TypeError: lists instead of arrays.
        ValueError: an accuracy outside 0..100, arrays of different shapes, columns of different index.

    Example:
        >>> from lkd.metrics import direct_gain
        >>> round(direct_gain(83.1, 82.1), 6)
        1.0
    """
    _check(distilled=distilled, student=student)
    return distilled - student


def effective_gain(distilled: Percent, student: Percent, teacher: Percent) -> Percent:
    """The direct gain as a share of the teacher's accuracy, `(acc(distilled) - acc(student)) / acc(teacher)` (eq. 2).

    Args:
        distilled, student: as for `direct_gain`.
        teacher: accuracy of the teacher, in percent, above 0.

    Returns:
        A ratio.

    Raises:
        TypeError, ValueError: as for `direct_gain`, and a teacher of accuracy 0.

    Example:
        >>> from lkd.metrics import effective_gain
        >>> round(100 * effective_gain(83.1, 82.1, 82.5), 2)
        1.21
    """
    _check(distilled=distilled, student=student, teacher=teacher)
    if (np.asarray(teacher) == 0).any():
        raise ValueError(f"teacher must be above 0 percent, got {teacher}")
    return (distilled - student) / teacher


class Spread(NamedTuple):
    """Mean, standard deviation, and the ends of a confidence interval of the mean, of n values."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


def spread(values: ArrayLike, level: float = 0.95) -> Spread:
    """Mean of a few independent values with Student's t interval; sd, low and high are NaN for a single one.

    Raises:
        ValueError: no value, or one that is not finite; a level that is not between 0 and 1.

    Example:
        >>> from lkd.metrics import spread
        >>> spread([1.0, 2.0, 3.0]).sd
        1.0
    """
    check_number("level", level, 0, 1, above=True)
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or not x.size or not np.isfinite(x).all():
        raise ValueError(f"values must be one or more finite numbers, got {values!r}")
    if x.size == 1:
        return Spread(x[0].item(), *(float("nan"),) * 3, 1)
    mean, sd = x.mean().item(), x.std(ddof=1).item()
    half = stats.t.ppf((1 + level) / 2, x.size - 1).item() * sd / x.size**0.5
    return Spread(mean, sd, mean - half, mean + half, x.size)


def _check(**accuracies: ArrayLike) -> None:
    for name, value in accuracies.items():
        if isinstance(value, list | tuple):
            raise TypeError(f"{name} is a {type(value).__name__}: give a number, an array or a column (numpy.array)")
        x = np.asarray(value, dtype=float)
        if not ((x >= 0) & (x <= 100)).all():
            raise ValueError(f"{name} must be in percent, 0 to 100, got {value!r}")
        if x.any() and (x <= 1).all():
            warnings.warn(
                f"{name} is at most 1 percent, got {value!r}: if that is a share of 1, multiply it by 100", stacklevel=3
            )
    _check_rows(accuracies)


def _check_rows(accuracies: dict[str, Any]) -> None:
    """Refuse arrays whose rows are not those of one another, which NumPy and pandas would stretch or reorder."""
    columns = {name: value for name, value in accuracies.items() if np.ndim(value)}
    for (first, one), (second, other) in pairwise(columns.items()):
        if np.shape(one) != np.shape(other):
            raise ValueError(
                f"{first} has shape {np.shape(one)}, {second} {np.shape(other)}: give one accuracy of each for each run"
            )
        if isinstance(one, pd.Series) and isinstance(other, pd.Series) and not one.index.equals(other.index):
            raise ValueError(
                f"{first} and {second} have rows of different index: bring them into one table first (pandas.merge)"
            )
