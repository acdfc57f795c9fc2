"""Warnings about likely mistakes in valid images and labels."""

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lkd.util.checks import some

AXES = "the channels do not seem to be first; for (H, W, C), use image.permute(2, 0, 1)"

LARGEST_NORMALISED = 30
"""Upper bound of absolute values of normalised images."""

SAMPLE = 2**20
"""Maximum number of values for the mean and standard deviation of a split."""

FEW = 4
"""Minimum number of images of a split for comparing mean and standard deviation."""


def warn(message: str) -> None:
    """Issue a warning with the location of the first caller outside `lkd`."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and f"{frame.f_globals.get('__name__')}.".startswith(("lkd.", "contextlib.")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


# Axes ---------------------------------------------------------------------------------------------------------------


def swapped_axes(shape: Sequence[int]) -> bool:
    """Whether a tensor read as (C, H, W) clearly has another order: (H, W, 3), or (W, 3, H) of a square image.

    Many channels or a small square are valid: 13 bands of 64 x 64, or 512 channels of 1 x 1.

    Example:
        >>> from lkd.data.sanity_checks import swapped_axes
        >>> swapped_axes((32, 32, 3)), swapped_axes((32, 3, 32)), swapped_axes((13, 64, 64))
        (True, True, False)
    """
    channels, height, width = shape
    return channels > 4 and (width <= 4 < height or height <= 4 < width == channels)


def warn_of_axes(shape: Sequence[int]) -> None:
    """Warn if a non-square image has more channels than rows or columns."""
    channels, height, width = shape
    if channels > 4 and height != width and channels > min(height, width):
        warn(
            f"images have {channels} channels of {height} x {width} pixels: check that their axes are in the order "
            "(channels, height, width), for arrays (height, width, channels)"
        )


# Classes ------------------------------------------------------------------------------------------------------------


def warn_of_classes(classes: Sequence[str], labels: Mapping[str, Tensor]) -> None:
    """Warn of duplicate class names, and of classes without an image in a split.

    Args:
        classes: name of each class.
        labels: labels by split, including "train".
    """
    if twice := [str(name) for name, times in Counter(classes).items() if times > 1]:
        warn(f"classes names {some(twice)} more than once: give each class a unique name")
    present = {name: values.bincount(minlength=len(classes)) > 0 for name, values in labels.items()}
    anywhere = torch.stack(list(present.values())).any(0)
    if not anywhere.all():
        warn(
            f"no split has an image of {_names(classes, ~anywhere)}: the network gets outputs that are never right; "
            "number the classes from 0 without gaps, or remove classes without images"
        )
    for name, has in present.items():
        missing = anywhere & ~has
        if missing.any():
            effect = "no network can learn that" if name == "train" else "its accuracy leaves that out"
            hold_out = "" if name == "test" else " (if from_datasets held out val: give another val_share, or val)"
            warn(
                f"{name} has no image of {_names(classes, missing)}, but another split has: {effect}; add images, "
                f"correct the labels or change the split{hold_out}"
            )


def _names(classes: Sequence[str], chosen: Tensor) -> str:
    places = chosen.nonzero().flatten().tolist()
    kind = "class" if len(places) == 1 else f"{len(places)} of {len(classes)} classes,"
    return f"{kind} {some(str(classes[place]) for place in places)}"


# Values -------------------------------------------------------------------------------------------------------------


class Values(NamedTuple):
    """Lowest and highest value of each image, and its type of range."""

    low: Tensor
    high: Tensor
    kind: Tensor

    @property
    def usual(self) -> int:
        """The most frequent range other than UNCLEAR, if any."""
        return int(self.kind.bincount(minlength=2)[1:].argmax()) + 1 if self.kind.any() else UNCLEAR

    def range(self, chosen: Tensor | slice = slice(None)) -> str:
        """The value range of the chosen images, for messages."""
        return f"{float(self.low[chosen].min()):.4g} to {float(self.high[chosen].max()):.4g}"


UNCLEAR, UNIT, SIGNED, WIDE = range(4)
"""Value ranges: floats in [0, 1], around 0, or up to 255; uint8 with only 0 and 1 (UNIT), or more (WIDE)."""


def values_of(images: Tensor) -> Values:
    """The range of each image; UNCLEAR for black, blank and low-contrast images, which fit any range."""
    low, high = images.flatten(1).amin(1), images.flatten(1).amax(1)
    if images.dtype == torch.uint8:
        return Values(low, high, UNIT * (high == 1) + WIDE * (high > 16))
    wide = torch.maximum(-low, high) > LARGEST_NORMALISED
    unit = (low >= 0) & (high <= 1) & (high - low > 0.6)
    return Values(low, high, UNIT * unit + SIGNED * (~wide & (low < -0.3)) + WIDE * wide)


def warn_of_mixture(name: str, values: Values) -> None:
    """Warn of images with another value range than most of their split."""
    odd = (values.kind != values.usual) & (values.kind != UNCLEAR)
    if odd.any():
        first = int(odd.nonzero()[0])
        warn(
            f"{int(odd.sum())} of {len(odd)} {name} images have another value range than the others "
            f"({values.range(values.kind == values.usual)}), the first of them {name}[{first}] "
            f"({values.range(slice(first, first + 1))}): scale all images to the same range"
        )


class SplitSummary(NamedTuple):
    """Statistics of the images of a split.

    `mean` and `spread` (standard deviation) are computed after normalisation. For images of three channels, `grey` is
    the share of images with equal channels, `cast` the mean difference of the first and the last channel, and `error`
    its standard error.
    """

    images: int
    floats: bool
    kind: int
    range: str
    constant: bool
    mean: float
    spread: float
    grey: float
    cast: float
    error: float


def sampled(count: int, numbers: int) -> Tensor:
    """Evenly spaced indices of images with about `SAMPLE` values, of `count` images of so many numbers each."""
    return torch.arange(0, count, 1 + count * numbers // SAMPLE)


def summarise(values: Values, sample: Tensor, normalise: Callable[[Tensor], Tensor]) -> SplitSummary:
    """Summarise a split: the range of all images; mean and spread of a sample of them."""
    seen = normalise(sample)
    return SplitSummary(
        images=len(values.kind),
        floats=sample.is_floating_point(),
        kind=values.usual,
        range=values.range(),
        constant=bool(values.low.min() == values.high.max()),
        mean=seen.mean().item(),
        spread=seen.std(correction=0).item(),
        **(_colour(sample) if sample.shape[1] == 3 else {"grey": 0.0, "cast": 0.0, "error": 0.0}),
    )


def _colour(images: Tensor) -> dict[str, float]:
    casts = (images[:, 0].float() - images[:, 2].float()).flatten(1).mean(1)
    return {
        "grey": (images == images[:, :1]).flatten(1).all(1).float().mean().item(),
        "cast": casts.mean().item(),
        "error": casts.std(correction=0).item() / len(casts) ** 0.5,
    }


def warn_of_values(summaries: Mapping[str, SplitSummary]) -> None:
    """Warn of training images with an unusual value range, and of splits that differ from them.

    Args:
        summaries: summary of each split, including "train".
    """
    train = summaries["train"]
    _warn_of_train(train)
    for name, summary in summaries.items():
        if summary.constant and not train.constant:
            _warn_of_constant(name, summary)
        elif not train.constant and _differ(summary, train):
            warn(
                f"{name} images ({summary.range}; mean {summary.mean:.2g} and standard deviation {summary.spread:.2g} "
                f"after normalisation) differ from train images ({train.range}; {train.mean:.2g} and {train.spread:.2g}"
                "): scale and normalise all splits the same way"
            )
        if not (summary.constant or train.constant):
            _warn_of_colour(name, summary, train)


def _warn_of_train(summary: SplitSummary) -> None:
    if summary.constant:
        _warn_of_constant("train", summary)
    elif summary.kind == UNIT and not summary.floats:
        warn(
            "train images are uint8 with values 0 and 1 only: if they were floats in [0, 1], multiply by 255 before "
            "the cast, or give the floats"
        )
    elif summary.floats and not 0.01 <= summary.spread <= 3:
        warn(
            f"train images are floats from {summary.range}, with a standard deviation of {summary.spread:.2g} after "
            "normalisation: give uint8 images, or floats in [0, 1], or floats that are normalised once"
        )


def _warn_of_constant(name: str, summary: SplitSummary) -> None:
    warn(f"every value of every {name} image is {summary.range.split()[0]}: check how the images are read")


def _differ(summary: SplitSummary, train: SplitSummary) -> bool:
    if UNCLEAR not in (summary.kind, train.kind) and summary.kind != train.kind:
        return True
    shifted = abs(summary.mean - train.mean) > train.spread
    stretched = max(summary.spread, train.spread) > 2 * min(summary.spread, train.spread)
    return min(summary.images, train.images) >= FEW and (shifted or stretched)


def _warn_of_colour(name: str, summary: SplitSummary, train: SplitSummary) -> None:
    for grey, one, colour, other in (
        (summary.grey, name, train.grey, "train"),
        (train.grey, "train", summary.grey, name),
    ):
        if grey == 1 and colour < 0.5:
            warn(
                f"all {one} images are grey (three equal channels), most {other} images are in colour: read both the "
                "same way"
            )
    if min(summary.images, train.images) >= FEW and _reversed(summary, train):
        warn(
            f"the first channel of {name} images is {summary.cast:+.2g} above the last one, that of train images "
            f"{train.cast:+.2g}: check that both have the same channel order (RGB; OpenCV reads BGR)"
        )


def _reversed(summary: SplitSummary, train: SplitSummary) -> bool:
    """Whether two splits have significant colour casts of similar strength and opposite sign."""
    sure = all(abs(split.cast) > 6 * split.error for split in (summary, train))
    return sure and 0.5 < -summary.cast / train.cast < 2


# Duplicate images ---------------------------------------------------------------------------------------------------


def warn_of_repeats(digests: Mapping[str, Tensor]) -> None:
    """Warn of images with an exact copy in another split, and of splits that only contain copies of one image.

    Args:
        digests: a number for the content of each image, by split.
    """
    keys = {name: found.tolist() for name, found in digests.items()}
    for name in [name for name, found in keys.items() if len(found) > 1 and len(set(found)) == 1]:
        warn(f"all {len(keys.pop(name))} {name} images are copies of one: check how they are read")
    names = list(keys)
    for place, name in enumerate(names):
        for other in names[:place]:
            known = set(keys[other])
            if shared := sum(key in known for key in keys[name]):
                warn(
                    f"{shared} of {len(keys[name])} {name} images are in {other} as well: an accuracy on them says "
                    "nothing about new images; remove them from one of the two"
                )
