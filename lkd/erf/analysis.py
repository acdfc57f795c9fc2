"""Analysis of contribution maps: extent of a receptive field, and distance between two."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lkd.util.checks import check_flag, check_number

THRESHOLDS = (0.2, 0.3, 0.5, 0.99)
"""Thresholds of RepLKNet's table."""


class AreaRatio(NamedTuple):
    """The smallest central square with more than a given share of all contributions; None if no square has it.

    Attributes:
        threshold: the share.
        side: side of the square, in pixels.
        ratio: area of the square relative to the image.
    """

    threshold: float
    side: int | None
    ratio: float | None


class Distance(NamedTuple):
    """Distance between two receptive fields.

    Attributes:
        radial: scale-free distance; 0 for contributions equally far from the centre, 1 for all at the centre against
            all at the border.
        ratios: for each threshold, the first map's area ratio minus the second's; None if either has none.
    """

    radial: float
    ratios: dict[float, float | None]


def area_ratios(
    contribution: ArrayLike, thresholds: Sequence[float] = THRESHOLDS, *, log: bool = True
) -> list[AreaRatio]:
    """Size of the central square that holds more than each share of all contributions, as in RepLKNet's analysis.

    With `A = log10(contribution + 1)`, divided by its maximum: the squares of side `2 i + 1` around
    `(H // 2, W // 2)` are tried for `i = 1, 2, ..., H // 2 - 1`, as in RepLKNet's loop, while they lie within the map.
    The first square with `sum(square) / sum(A) > threshold` determines side and `ratio = side^2 / (H W)`.

    Because of the logarithm, the result depends on the scale of the gradients: the same map, multiplied by a million,
    appears twice as wide. To compare networks, also use `log=False` or `effective_share`.

    Args:
        contribution: `(H, W)`, finite, at least 0 and not 0 everywhere; see `contribution_map`.
        thresholds: shares, above 0 and below 1.
        log: whether to take the logarithm.

    Returns:
        A row `(threshold, side, ratio)` for each threshold; side and ratio are None if no square is large enough. For
        example, a flat map never reaches 0.99: the largest square omits at least one row and one column.

    Raises:
        TypeError, ValueError: an invalid map or threshold.

    Source: DingXiaoH/RepLKNet-pytorch, erf/analyze_erf.py.

    Example:
        >>> import numpy as np
        >>> from lkd.erf import area_ratios
        >>> area_ratios(np.ones((10, 10)), thresholds=(0.2, 0.99))
        [AreaRatio(threshold=0.2, side=5, ratio=0.25), AreaRatio(threshold=0.99, side=None, ratio=None)]
    """
    check_flag("log", log)
    values = _checked("contribution", contribution)
    for threshold in thresholds:
        check_number("threshold", threshold, 0, 1, above=True, below=True)
    if log:
        values = np.log10(values + 1)
    shares = _square_shares(values / values.max())
    return [_area_ratio(threshold, shares, values.size) for threshold in thresholds]


def effective_share(contribution: ArrayLike) -> float:
    """Share of the image that a receptive field effectively covers, independent of the scale of the gradients.

    `exp(-sum p ln p) / (H W)` with `p` the map divided by its sum: 1 for a flat map, k / (H W) for one flat on k
    pixels and 0 elsewhere.

    Args:
        contribution: as in `area_ratios`.

    Raises:
        TypeError, ValueError: an invalid map.

    Example:
        >>> import numpy as np
        >>> from lkd.erf import effective_share
        >>> round(effective_share(np.pad(np.ones((5, 5)), 5)), 6)
        0.111111
    """
    values = _checked("contribution", contribution)
    p = values[values > 0] / values.sum()
    return float(np.exp(-(p * np.log(p)).sum()) / values.size)


def erf_distance(
    first: ArrayLike, second: ArrayLike, thresholds: Sequence[float] = THRESHOLDS, *, log: bool = True
) -> Distance:
    """Distance between two receptive fields: by their extent from the centre, and by their area ratios.

    `radial` is the earth mover's distance between the two distributions of contributions (without the logarithm) over
    the distance from the centre, `max(|row - H // 2|, |column - W // 2|)`, relative to the largest such distance. It is
    scale-free and ignores the grid patterns of strides, and the form of the field (a cross, a disc) at equal extent.

    Args:
        first, second: maps `(H, W)` of equal shape, as in `area_ratios`.
        thresholds, log: see `area_ratios`.

    Raises:
        TypeError, ValueError: invalid maps or thresholds, or maps of different shapes.

    Example:
        >>> import numpy as np
        >>> from lkd.erf import erf_distance
        >>> small, large = np.pad(np.ones((5, 5)), 4), np.ones((13, 13))
        >>> distance = erf_distance(small, large)
        >>> round(distance.radial, 3), round(distance.ratios[0.5], 3), distance.ratios[0.99]
        (0.451, -0.568, None)
    """
    one, other = _checked("first", first), _checked("second", second)
    if one.shape != other.shape:
        raise ValueError(f"first has shape {one.shape}, second {other.shape}: give maps of equal shape")
    pairs = zip(area_ratios(one, thresholds, log=log), area_ratios(other, thresholds, log=log), strict=True)
    ratios = {a.threshold: None if a.ratio is None or b.ratio is None else a.ratio - b.ratio for a, b in pairs}
    gaps = np.abs(_cumulative_shares(one) - _cumulative_shares(other))
    return Distance(float(gaps.sum() / max(len(gaps) - 1, 1)), ratios)


def _checked(name: str, contribution: ArrayLike) -> np.ndarray:
    try:
        values = np.asarray(contribution, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} must be an array of numbers (on the CPU), got {type(contribution).__name__}"
        ) from error
    if values.ndim != 2 or not values.size:
        raise ValueError(f"{name} has shape {values.shape}: give one map, (H, W)")
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"{name} has values from {values.min()} to {values.max()}: give finite values, at least 0")
    if not values.any():
        raise ValueError(
            f"{name} is 0 everywhere: no pixel contributes; check the network for dead units at the centre"
        )
    return values


def _square_shares(values: np.ndarray) -> list[float]:
    """Share of the sum within the central squares of side 3, 5, 7, ..."""
    height, width = values.shape
    row, column = height // 2, width // 2
    total = values.sum()
    radii = range(1, min(row - 1, (width - 1) // 2) + 1)
    squares = (values[row - i : row + i + 1, column - i : column + i + 1] for i in radii)
    return [float(square.sum() / total) for square in squares]


def _area_ratio(threshold: float, shares: list[float], pixels: int) -> AreaRatio:
    side = next((2 * i + 1 for i, share in enumerate(shares, start=1) if share > threshold), None)
    return AreaRatio(threshold, side, None if side is None else side**2 / pixels)


def _cumulative_shares(values: np.ndarray) -> np.ndarray:
    """Share of the sum within a distance of 0, 1, 2, ... from the centre."""
    rows, columns = (np.abs(np.arange(side) - side // 2) for side in values.shape)
    distance = np.maximum(rows[:, None], columns)
    return np.cumsum(np.bincount(distance.ravel(), values.ravel())) / values.sum()
