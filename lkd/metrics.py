"""Metrics of distillation: gains of a distilled student, agreement, calibration, and confidence intervals."""

import warnings
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from lkd.util.checks import check_number, check_whole

_ROUNDING = 1e-6
"""Amount by which a float32 probability may exceed 1."""

Percent = TypeVar("Percent", float, np.ndarray, pd.Series)


def direct_gain(distilled: Percent, student: Percent) -> Percent:
    """Gain in accuracy from distillation, `acc(distilled) - acc(student)` (L2S, equation 1).

    Args:
        distilled: accuracy of the distilled student, in percent; a number, array or column.
        student: accuracy of the same student trained from labels alone (the baseline), in percent.

    Returns:
        Percentage points.

    Raises:
        TypeError: lists instead of arrays.
        ValueError: an accuracy outside 0..100, arrays of different shapes, columns with different indexes.

    Example:
        >>> from lkd.metrics import direct_gain
        >>> round(direct_gain(83.1, 82.1), 6)
        1.0
    """
    _check(distilled=distilled, student=student)
    return distilled - student


def effective_gain(distilled: Percent, student: Percent, teacher: Percent) -> Percent:
    """Direct gain relative to the teacher's accuracy, `(acc(distilled) - acc(student)) / acc(teacher)` (L2S, eq. 2).

    Args:
        distilled, student: as in `direct_gain`.
        teacher: accuracy of the teacher, in percent, above 0.

    Returns:
        A ratio.

    Raises:
        TypeError, ValueError: as in `direct_gain`; also a teacher accuracy of 0.

    Example:
        >>> from lkd.metrics import effective_gain
        >>> round(100 * effective_gain(83.1, 82.1, 82.5), 2)
        1.21
    """
    _check(distilled=distilled, student=student, teacher=teacher)
    if (np.asarray(teacher) == 0).any():
        raise ValueError(f"teacher must be above 0 percent, got {teacher}")
    return (distilled - student) / teacher


def agreement(first: ArrayLike, second: ArrayLike) -> float:
    """Share of the images for which two models predict the same class, in percent.

    Args:
        first, second: predicted class of each image, shape (N,).

    Raises:
        ValueError: no images, or different numbers of them.

    Example:
        >>> from lkd.metrics import agreement
        >>> agreement([3, 1, 2, 2], [3, 1, 0, 2])
        75.0
    """
    one, other = np.asarray(first), np.asarray(second)
    if one.ndim != 1 or not one.size or one.shape != other.shape:
        raise ValueError(f"first and second must be predictions for the same images, got {one.shape} and {other.shape}")
    return 100 * (one == other).mean().item()


def calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error, `sum_b n_b / N * |accuracy_b - confidence_b|`, in percent.

    Images are grouped into bins of equal width by their confidence (Guo et al., 2017, equation 3).

    Args:
        confidence: probability of the predicted class of each image, shape (N,).
        correct: whether the prediction is correct, shape (N,).
        bins: number of bins.

    Raises:
        ValueError: a probability outside 0..1, no images, or different numbers of them.

    Example:
        >>> from lkd.metrics import calibration_error
        >>> calibration_error([1.0, 1.0, 0.5, 0.5], [True, True, True, False])
        0.0
    """
    check_whole("bins", bins, 1)
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    if sure.ndim != 1 or not sure.size or sure.shape != right.shape:
        raise ValueError(f"confidence and correct must be of the same images, got {sure.shape} and {right.shape}")
    if not ((sure >= 0) & (sure <= 1 + _ROUNDING)).all():
        raise ValueError(f"confidence must be probabilities, got {sure.min():g} to {sure.max():g}")
    places = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = np.bincount(places, right - sure, bins)
    return 100 * np.abs(gaps).sum().item() / sure.size


class Spread(NamedTuple):
    """Mean, standard deviation and confidence interval of the mean of n values."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


def spread(values: ArrayLike, level: float = 0.95) -> Spread:
    """Mean of independent values with Student's t interval; sd, low and high are NaN for a single value.

    Raises:
        ValueError: no values, a value that is not finite, or a level outside (0, 1].

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
    half = scipy.stats.t.ppf((1 + level) / 2, x.size - 1).item() * sd / x.size**0.5
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
                f"{name} is at most 1 percent, got {value!r}: if this is a fraction, multiply it by 100", stacklevel=3
            )
    _check_rows(accuracies)


def _check_rows(accuracies: dict[str, Any]) -> None:
    """Refuse arrays of different rows, which NumPy would broadcast and pandas would align."""
    columns = {name: value for name, value in accuracies.items() if np.ndim(value)}
    for (first, one), (second, other) in pairwise(columns.items()):
        if np.shape(one) != np.shape(other):
            raise ValueError(
                f"{first} has shape {np.shape(one)}, {second} {np.shape(other)}: give one accuracy of each per run"
            )
        if isinstance(one, pd.Series) and isinstance(other, pd.Series) and not one.index.equals(other.index):
            raise ValueError(
                f"{first} and {second} have different indexes: join them into one table first (pandas.merge)"
            )
