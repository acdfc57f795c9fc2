"""Robustness scores: mean corruption errors, with and without AlexNet normalisation, and top-1 among some classes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lkd.data.images import whole_indices
from lkd.util.checks import check_list, some, unknown

ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's mean error over the five severities of each type, from AugMix's released evaluation."""

STANDARD = tuple(ALEXNET)
"""The 15 corruption types of mCE."""

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The 4 additional types, intended for validation by ImageNet-C's authors."""

CORRUPTIONS = STANDARD + EXTRA
"""All 19 corruption types."""

SEVERITIES = (1, 2, 3, 4, 5)
"""Severities of each type, weakest first."""

MCE_15 = "mCE-15 (standard)"
MEAN_19 = "mean error-19 (standard input)"
L2S_MEAN_19 = "mean error-19 (L2S input)"


def mean_corruption_error(error: Mapping[str, float]) -> float:
    """ImageNet-C's mCE: `100 * mean_c(E_c / A_c)` over the 15 types c, with AlexNet's mean error A_c.

    mCE is defined for ImageNet-C under its own protocol; for other data or types, report `mean_error`.

    Args:
        error: top-1 error in [0, 1] of each of the 15 types of `STANDARD`, averaged over the five severities.

    Returns:
        Percent of AlexNet's error; 100 for AlexNet itself.

    Raises:
        KeyError: a name that is not one of the 15.
        TypeError: not a mapping, or an error that is not a number.
        ValueError: a missing type, or an error outside [0, 1].

    Source: D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
    Perturbations, ICLR 2019, arXiv 1903.12261.

    Example:
        >>> from lkd.robustness import ALEXNET, mean_corruption_error
        >>> mean_corruption_error({name: error / 2 for name, error in ALEXNET.items()})
        50.0
    """
    errors = _checked(error, STANDARD)
    return 100 * math.fsum(errors[name] / ALEXNET[name] for name in STANDARD) / len(STANDARD)


def mean_error(error: Mapping[str, float], corruptions: Iterable[str] = CORRUPTIONS) -> float:
    """Mean error over corruption types, without AlexNet normalisation; over all 19, the score of L2S's authors.

    Args:
        error: top-1 error in [0, 1] of each type, averaged over severities.
        corruptions: the required types, all 19 by default.

    Returns:
        Percent.

    Raises:
        KeyError, TypeError, ValueError: as in `mean_corruption_error`.

    Example:
        >>> from lkd.robustness import CORRUPTIONS, mean_error
        >>> mean_error(dict.fromkeys(CORRUPTIONS, 0.25))
        25.0
    """
    names = corruptions if isinstance(corruptions, str) else tuple(corruptions)
    check_list("corruptions", names, str)
    errors = _checked(error, names)
    return 100 * math.fsum(errors.values()) / len(names)


def by_corruption(table: pd.DataFrame) -> dict[str, float]:
    """Mean error over the five severities of each type in a table, as input of the means above.

    Args:
        table: columns corruption, severity and error, one row for each pair, as returned by `corruption_errors`; clean
            rows (severity 0) are ignored.

    Raises:
        TypeError: not a table, or an error that is not a number.
        ValueError: a missing column; a type with a missing or repeated severity; an error outside [0, 1].

    Example:
        >>> import pandas as pd
        >>> from lkd.robustness import by_corruption
        >>> by_corruption(pd.DataFrame({"corruption": "fog", "severity": range(1, 6), "error": [0, 0, 0.5, 1, 1]}))
        {'fog': 0.5}
    """
    _check_columns(table, "corruption", "severity", "error")
    errors = {}
    for name, rows in table[table.severity > 0].groupby("corruption", sort=False):
        if sorted(rows.severity) != list(SEVERITIES):
            raise ValueError(
                f"table has severities {sorted(rows.severity)} of {name}: give one row for each of {list(SEVERITIES)}"
            )
        for error in rows.error.tolist():
            _check_error(str(name), error)
        errors[str(name)] = math.fsum(rows.error) / len(rows)
    return errors


def imagenet_c_scores(table: pd.DataFrame) -> dict[str, float | None]:
    """The three scores of ImageNet-C, with unambiguous names.

    Args:
        table: the result of `imagenet_robustness`.

    Returns:
        In percent: `mCE-15 (standard)`, AlexNet-normalised; `mean error-19 (standard input)`, not normalised; and
        `mean error-19 (L2S input)`, not normalised, with images resized and cropped as by L2S's authors. A score is
        None if a type or severity was not run.

    Raises:
        TypeError, ValueError: as in `by_corruption`; also a repeated row, for example from two models.

    Example:
        >>> import pandas as pd
        >>> from lkd.robustness import CORRUPTIONS, SEVERITIES, imagenet_c_scores
        >>> rows = [("C", "l2s", name, severity, 0.5) for name in CORRUPTIONS for severity in SEVERITIES]
        >>> imagenet_c_scores(pd.DataFrame(rows, columns=["set", "protocol", "corruption", "severity", "error"]))
        {'mCE-15 (standard)': None, 'mean error-19 (standard input)': None, 'mean error-19 (L2S input)': 50.0}
    """
    _check_columns(table, "set", "protocol", "corruption", "severity", "error")
    rows = table[table.set == "C"]
    if (again := rows.duplicated(["protocol", "corruption", "severity"])).any():
        row = rows[again].iloc[0]
        raise ValueError(
            f"table has {row.corruption} at severity {row.severity} more than once under {row.protocol!r}: give the "
            "rows of one model"
        )
    whole = rows.groupby(["protocol", "corruption"]).severity.transform("count") == len(SEVERITIES)
    errors = {name: by_corruption(part) for name, part in rows[whole].groupby("protocol")}
    standard, l2s = errors.get("standard", {}), errors.get("l2s", {})
    fifteen = {name: standard[name] for name in STANDARD if name in standard}
    return {
        MCE_15: mean_corruption_error(fifteen) if len(fifteen) == len(STANDARD) else None,
        MEAN_19: mean_error(standard) if len(standard) == len(CORRUPTIONS) else None,
        L2S_MEAN_19: mean_error(l2s) if len(l2s) == len(CORRUPTIONS) else None,
    }


def subset_top1(logits: Tensor, target: Tensor, indices: Sequence[int] | np.ndarray | Tensor) -> float:
    """Top-1 accuracy with predictions restricted to a subset of a model's classes, as in ImageNet-A and -R.

    Args:
        logits: logits of all classes, (B, C).
        target: positions in `indices`, int64, (B,).
        indices: distinct classes to predict; see `class_indices` for ImageNet-A and -R.

    Returns:
        Percent.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a wrong shape, a NaN logit, a target or index out of range, a repeated class.

    Source: D. Hendrycks et al., Natural Adversarial Examples, CVPR 2021, arXiv 1907.07174.

    Example:
        >>> import torch
        >>> from lkd.robustness import subset_top1
        >>> subset_top1(torch.tensor([[9.0, 1.0, 2.0]]), torch.tensor([1]), indices=[1, 2])
        100.0
    """
    chosen = whole_indices(indices)
    _check_logits(logits)
    _check_indices(chosen, logits.shape[1])
    _check_target(target, len(logits), len(chosen))
    answers = logits[:, chosen.to(logits.device)].argmax(1)
    return 100 * int((answers == target.to(logits.device)).sum()) / len(logits)


def _checked(error: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """The errors of `names`, in this order."""
    if not isinstance(error, Mapping | pd.Series):
        raise TypeError(f"error must map each corruption type to its mean error, got a {type(error).__name__}")
    if isinstance(error, pd.Series) and (twice := error.index[error.index.duplicated()].unique().tolist()):
        raise ValueError(
            f"error has several values of {some(map(str, twice))}: give the mean over the severities of each type "
            "(see by_corruption)"
        )
    given = dict(error)
    for name in given:
        if name not in names:
            raise KeyError(unknown("corruption", name, names))
    if missing := [name for name in names if name not in given]:
        raise ValueError(
            f"error is missing {', '.join(missing)}: give the mean error of each of the {len(names)} corruption types"
        )
    for name in names:
        _check_error(name, given[name])
    return {name: float(given[name]) for name in names}


def _check_columns(table: pd.DataFrame, *names: str) -> None:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table must be a pandas.DataFrame, got a {type(table).__name__}")
    if missing := [name for name in names if name not in table]:
        raise ValueError(f"table is missing {some(missing)}: give a table with the columns {', '.join(names)}")


def _check_error(name: str, value: float) -> None:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"error of {name} must be a number, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"error of {name} must be a fraction, 0 to 1, got {value!r}: divide percent by 100")


def _check_logits(logits: Tensor) -> None:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        got = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"logits must be a floating point tensor, got {got}")
    if logits.ndim != 2 or not logits.numel():
        raise ValueError(f"logits must be (B, C) and not empty, got shape {tuple(logits.shape)}")
    if logits.isnan().any():
        raise ValueError(f"logits must not be NaN, got NaN in row {int(logits.isnan().any(1).nonzero()[0])}")


def _check_indices(indices: Tensor, classes: int) -> None:
    if indices.ndim != 1:
        raise ValueError(f"indices must be a flat list of classes, got shape {tuple(indices.shape)}")
    if int(indices.min()) < 0 or int(indices.max()) >= classes:
        raise ValueError(
            f"indices must lie in 0..{classes - 1}, the classes of the logits, "
            f"got {int(indices.min())} to {int(indices.max())}"
        )
    if len(indices.unique()) < len(indices):
        raise ValueError(f"indices must be distinct, got {len(indices)} indices of {len(indices.unique())} classes")


def _check_target(target: Tensor, batch: int, choices: int) -> None:
    if not isinstance(target, Tensor) or target.dtype != torch.int64:
        got = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"target must be an int64 tensor, got {got}")
    if target.shape != (batch,):
        raise ValueError(f"target must be ({batch},) for these logits, got shape {tuple(target.shape)}")
    if int(target.min()) < 0 or int(target.max()) >= choices:
        raise ValueError(
            f"target must hold positions in indices, 0..{choices - 1}, "
            f"got values from {int(target.min())} to {int(target.max())}"
        )
