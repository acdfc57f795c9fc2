"""timm's transforms of images from files, made functions of a key instead of global random state."""

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from timm.data import create_transform
from torchvision.transforms import Compose

from lkd.data.stream import Augmentation
from lkd.util.checks import unknown

INTERPOLATIONS = ("bicubic", "bilinear", "nearest")
"""Those that all of timm's transforms know."""

_POLICIES = ("rand", "augmix", "v0", "v0r", "original", "originalr", "3a")
_SECTION = re.compile(r"(?!t)([a-z]+)\d+(\.\d+)?")
_CHOICES = ("tweights", "t3a", "t3aw")


def evaluation_transform(shown: dict[str, Any], crop_pct: float) -> Compose:
    """What timm evaluates: the image resized to the size / crop_pct, its centre as a normalised tensor.

    Args:
        shown: `input_size` (C, H, W), `interpolation`, `mean` and `std`, as `timm.data.create_transform` takes them.
        crop_pct: share of the resized image's side that is shown.
    """
    return create_transform(**shown, crop_pct=crop_pct)


def training_transform(augmentation: Augmentation, shown: dict[str, Any], crop_pct: float) -> Compose:
    """timm's training transform: geometry and mirroring, colours, tensor and normalisation, erasing (with noise).

    Args:
        augmentation: what to do.
        shown, crop_pct: see `evaluation_transform`, whose geometry is used where there is no random resized crop.
    """
    geometry, colours, end = create_transform(
        **shown,
        is_training=True,
        separate=True,
        scale=(augmentation.crop_scale or 1.0, 1.0),
        hflip=0.5 if augmentation.flip else 0.0,
        color_jitter=augmentation.color_jitter,
        auto_augment=augmentation.auto_augment or None,
        re_prob=augmentation.erasing,
        re_mode="pixel",
    )
    steps = [*geometry.transforms, *colours.transforms, *end.transforms]
    if not augmentation.crop_scale:
        steps[:1] = evaluation_transform(shown, crop_pct).transforms[:2]
    return Compose(steps)


def check_auto_augment(policy: str) -> None:
    """Refuse a policy that timm does not know, or would read in part only.

    Raises:
        KeyError: another kind of policy.
        TypeError: no string.
        ValueError: a section that timm does not know.

    Example:
        >>> from lkd.data.transforms import check_auto_augment
        >>> check_auto_augment("rand-m9-mstd0.5-inc1")
    """
    if not isinstance(policy, str):
        raise TypeError(f"auto_augment must be a string, got {policy!r}")
    if not policy:
        return
    kind, *sections = policy.split("-")
    if kind not in _POLICIES:
        raise KeyError(unknown("auto_augment policy", kind, _POLICIES))
    keys = []
    for section in sections:
        known = _SECTION.fullmatch(section)
        if not known and not (kind == "rand" and section in _CHOICES):
            raise ValueError(f"auto_augment {policy!r} has the section {section!r}: give {_form(kind)}")
        keys.append(known[1] if known else "t")
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"auto_augment {policy!r} has the section {twice[0]!r} twice: give {_form(kind)}, each once")
    try:
        create_transform((3, 32, 32), is_training=True, auto_augment=policy)
    except (AssertionError, ValueError) as error:
        raise ValueError(f"auto_augment {policy!r} is not known to timm ({error}): give {_form(kind)}") from error


def check_jitter(augmentation: Any) -> None:
    """Refuse colour jitter beside a policy for which timm leaves it out.

    Raises:
        ValueError: both are set.
    """
    if augmentation.color_jitter and augmentation.auto_augment and "3a" not in augmentation.auto_augment:
        raise ValueError(
            f"color_jitter {augmentation.color_jitter:g} has no effect beside auto_augment "
            f"{augmentation.auto_augment!r} (timm leaves it out): set one of them"
        )


@contextmanager
def seeded(key: Sequence[int]) -> Iterator[None]:
    """Random state of Python, numpy and torch (on the CPU) that depends on a key alone; what it was before, after.

    Args:
        key: whole numbers, at least 0.

    Example:
        >>> import random
        >>> from lkd.data.transforms import seeded
        >>> with seeded((0, 1)):
        ...     first = random.random()
        >>> with seeded((0, 1)):
        ...     first == random.random()
        True
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(key).generate_state(6)
    random.seed(int.from_bytes(words[:2].tobytes(), "little"))
    np.random.seed(words[2:4])
    torch.default_generator.manual_seed(int.from_bytes(words[4:].tobytes(), "little") >> 1)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def _form(kind: str) -> str:
    example = {"rand": "rand-m9-mstd0.5-inc1", "augmix": "augmix-m3-w3"}.get(kind, f"{kind}-mstd0.5")
    return f"sections as in {example!r}"
