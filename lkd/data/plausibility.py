"""Doubts about images and labels: they can be read, but are rarely what their owner means."""

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lkd.util.checks import some

AXES = "this looks as if its channels were not first: bring them there, image.permute(2, 0, 1) of (H, W, C)"

BEYOND = 30
"""Absolute value that normalised images do not reach."""

AT_ONCE = 2**20
"""Values of a split, at most, that its mean and standard deviation are taken of."""

FEW = 4
"""A split of fewer images has no mean and spread that say much."""


def warn(message: str) -> None:
    """A warning that points at the first line outside `lkd` which led to it."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and f"{frame.f_globals.get('__name__')}.".startswith(("lkd.", "contextlib.")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


# Axes ---------------------------------------------------------------------------------------------------------------


def swapped_axes(shape: Sequence[int]) -> bool:
    """Whether a tensor read as (C, H, W) is certainly in another order: (H, W, 3), or (W, 3, H) of a square image.

    Many channels are no sign of it, nor is a small square: 13 bands of 64 x 64 and 512 channels of 1 x 1 are images.

    Example:
        >>> from lkd.data.plausibility import swapped_axes
        >>> swapped_axes((32, 32, 3)), swapped_axes((32, 3, 32)), swapped_axes((13, 64, 64))
        (True, True, False)
    """
    channels, height, width = shape
    return channels > 4 and (width <= 4 < height or height <= 4 < width == channels)


def warn_of_axes(shape: Sequence[int]) -> None:
    """Warn of more channels than an oblong image is high or wide."""
    channels, height, width = shape
    if channels > 4 and height != width and channels > min(height, width):
        warn(
            f"images have {channels} channels of {height} x {width} pixels: make sure that their axes are in the order "
            "(channels, height, width), arrays (height, width, channels)"
        )


# Classes ------------------------------------------------------------------------------------------------------------


def warn_of_classes(classes: Sequence[str], labels: Mapping[str, Tensor]) -> None:
    """Warn of class names that occur twice, and of classes that a split has no image of.

    Args:
        classes: name of each class.
        labels: those of each split, "train" among them.
    """
    if twice := [str(name) for name, times in Counter(classes).items() if times > 1]:
        warn(f"classes names {some(twice)} more than once: give each class a name of its own")
    present = {name: values.bincount(minlength=len(classes)) > 0 for name, values in labels.items()}
    anywhere = torch.stack(list(present.values())).any(0)
    if not anywhere.all():
        warn(
            f"no split has an image of {_named(classes, ~anywhere)}: the network gets outputs that are never right; "
            "number the classes from 0 without gaps, or leave those without images out of classes"
        )
    for name, has in present.items():
        lacks = anywhere & ~has
        if lacks.any():
            effect = "no network can learn that" if name == "train" else "its accuracy leaves that out"
            hold_out = "" if name == "test" else " (if from_datasets held val out: give another val_share, or val)"
            warn(
                f"{name} has no image of {_named(classes, lacks)}, but another split has: {effect}; add images, "
                f"correct the labels or split anew{hold_out}"
            )


def _named(classes: Sequence[str], chosen: Tensor) -> str:
    places = chosen.nonzero().flatten().tolist()
    kind = "class" if len(places) == 1 else f"{len(places)} of {len(classes)} classes,"
    return f"{kind} {some(str(classes[place]) for place in places)}"


# Values -------------------------------------------------------------------------------------------------------------


class Values(NamedTuple):
    """Lowest and highest value of each image, and the kind of range that is."""

    low: Tensor
    high: Tensor
    kind: Tensor

    @property
    def usual(self) -> int:
        """The most frequent kind of those that are clear, UNCLEAR where none is."""
        return int(self.kind.bincount(minlength=2)[1:].argmax()) + 1 if self.kind.any() else UNCLEAR

    def range(self, chosen: Tensor | slice = slice(None)) -> str:
        """The range of some of the images in words."""
        return f"{float(self.low[chosen].min()):.4g} to {float(self.high[chosen].max()):.4g}"


UNCLEAR, UNIT, SIGNED, WIDE = range(4)
"""Kinds of range: of floats in [0, 1], around 0, or up to 255; of uint8, 0 and 1 alone (UNIT), or more (WIDE)."""


def values_of(images: Tensor) -> Values:
    """The range of each image. One that is black, blank or of little contrast is UNCLEAR: it may belong to any kind."""
    low, high = images.flatten(1).amin(1), images.flatten(1).amax(1)
    if images.dtype == torch.uint8:
        return Values(low, high, UNIT * (high == 1) + WIDE * (high > 16))
    wide = torch.maximum(-low, high) > BEYOND
    unit = (low >= 0) & (high <= 1) & (high - low > 0.6)
    return Values(low, high, UNIT * unit + SIGNED * (~wide & (low < -0.3)) + WIDE * wide)


def warn_of_mixture(name: str, images: Tensor) -> None:
    """Warn of images in another range than most of their split."""
    values = values_of(images)
    odd = (values.kind != values.usual) & (values.kind != UNCLEAR)
    if odd.any():
        first = int(odd.nonzero()[0])
        warn(
            f"{int(odd.sum())} of {len(images)} {name} images are in another range than the others "
            f"({values.range(values.kind == values.usual)}), the first of them {name}[{first}] "
            f"({values.range(slice(first, first + 1))}): bring all images to one range"
        )


class Look(NamedTuple):
    """A split at a glance.

    Mean and spread are those that a network sees. Of images in colour, grey is the share that has none, and cast how
    far the first channel lies above the last one, with the standard error of that.
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


def look_at(images: Tensor, normalise: Callable[[Tensor], Tensor]) -> Look:
    """A split at a glance: the range of all its images, mean and spread of as many as hold `AT_ONCE` values."""
    values = values_of(images)
    sample = images[:: 1 + images.numel() // AT_ONCE]
    seen = normalise(sample)
    return Look(
        images=len(images),
        floats=images.is_floating_point(),
        kind=values.usual,
        range=values.range(),
        constant=bool(values.low.min() == values.high.max()),
        mean=seen.mean().item(),
        spread=seen.std(correction=0).item(),
        **(_colour(sample) if images.shape[1] == 3 else {"grey": 0.0, "cast": 0.0, "error": 0.0}),
    )


def _colour(images: Tensor) -> dict[str, float]:
    casts = (images[:, 0].float() - images[:, 2].float()).flatten(1).mean(1)
    return {
        "grey": (images == images[:, :1]).flatten(1).all(1).float().mean().item(),
        "cast": casts.mean().item(),
        "error": casts.std(correction=0).item() / len(casts) ** 0.5,
    }


def warn_of_values(looks: Mapping[str, Look]) -> None:
    """Warn of training images in a range that no network expects, and of splits that differ from them.

    Args:
        looks: of each split, "train" among them.
    """
    train = looks["train"]
    _warn_of_train(train)
    for name, look in looks.items():
        if look.constant and not train.constant:
            _warn_of_constant(name, look)
        elif not train.constant and _unlike(look, train):
            warn(
                f"{name} images ({look.range}; mean {look.mean:.2g} and standard deviation {look.spread:.2g} as a "
                f"network sees them) are unlike train images ({train.range}; {train.mean:.2g} and {train.spread:.2g}): "
                "scale and normalise all splits alike"
            )
        if not (look.constant or train.constant):
            _warn_of_colour(name, look, train)


def _warn_of_train(look: Look) -> None:
    if look.constant:
        _warn_of_constant("train", look)
    elif look.kind == UNIT and not look.floats:
        warn(
            "train images are uint8 but hold 0 and 1 alone: if they were floats in [0, 1], multiply by 255 before the "
            "cast, or give the floats"
        )
    elif look.floats and not 0.01 <= look.spread <= 3:
        warn(
            f"train images are floats from {look.range}, which a network sees with a standard deviation of "
            f"{look.spread:.2g}: give uint8 images, or floats that lie in [0, 1] or are normalised once"
        )


def _warn_of_constant(name: str, look: Look) -> None:
    warn(f"every value of every {name} image is {look.range.split()[0]}: look at how the images are read")


def _unlike(look: Look, train: Look) -> bool:
    if UNCLEAR not in (look.kind, train.kind) and look.kind != train.kind:
        return True
    shifted = abs(look.mean - train.mean) > train.spread
    stretched = max(look.spread, train.spread) > 2 * min(look.spread, train.spread)
    return min(look.images, train.images) >= FEW and (shifted or stretched)


def _warn_of_colour(name: str, look: Look, train: Look) -> None:
    for grey, one, colour, other in ((look.grey, name, train.grey, "train"), (train.grey, "train", look.grey, name)):
        if grey == 1 and colour < 0.5:
            warn(
                f"all {one} images are grey in three equal channels, most {other} images are in colour: read both alike"
            )
    if min(look.images, train.images) >= FEW and _reversed(look, train):
        warn(
            f"the first channel of {name} images lies {look.cast:+.2g} above the last one, that of train images "
            f"{train.cast:+.2g}: make sure that both have their channels in one order (RGB, where OpenCV reads BGR)"
        )


def _reversed(look: Look, train: Look) -> bool:
    """Whether two splits have opposite casts of about one strength, both beyond chance."""
    sure = all(abs(split.cast) > 6 * split.error for split in (look, train))
    return sure and 0.5 < -look.cast / train.cast < 2


# Images that are there twice ----------------------------------------------------------------------------------------


def warn_of_repeats(images: Mapping[str, Tensor]) -> None:
    """Warn of images of which another split has an exact copy, and of a split of copies alone."""
    keys = {name: [hash(image.tobytes()) for image in pixels.numpy()] for name, pixels in images.items()}
    for name in [name for name, found in keys.items() if len(found) > 1 and len(set(found)) == 1]:
        warn(f"all {len(keys.pop(name))} {name} images are copies of one: look at how they are read")
    names = list(keys)
    for place, name in enumerate(names):
        for other in names[:place]:
            known = set(keys[other])
            if shared := sum(key in known for key in keys[name]):
                warn(
                    f"{shared} of {len(keys[name])} {name} images are in {other} as well: an accuracy on them says "
                    "nothing about new images; leave them out of one of the two"
                )
