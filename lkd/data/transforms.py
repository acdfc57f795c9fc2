"""timm's transforms of image files, with random state that depends on a key."""

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
"""Interpolations that all of timm's transforms support."""

_POLICIES = ("rand", "augmix", "v0", "v0r", "original", "originalr", "3a")
_SECTION = re.compile(r"(?!t)([a-z]+)\d+(\.\d+)?")
_CHOICES = ("tweights", "t3a", "t3aw")


def evaluation_transform(config: dict[str, Any], crop_pct: float) -> Compose:
    """timm's evaluation transform: resize to size / crop_pct, crop the centre, convert to a tensor and normalise.

    Args:
        config: `input_size` (C, H, W), `interpolation`, `mean` and `std` for `timm.data.create_transform`.
        crop_pct: side of the crop relative to the resized image.
    """
    return create_transform(**config, crop_pct=crop_pct)


def training_transform(augmentation: Augmentation, config: dict[str, Any], crop_pct: float) -> Compose:
    """timm's training transform: crop, flip, colours, conversion to a tensor, normalisation, erasing with noise.

    Args:
        augmentation: its settings.
        config, crop_pct: see `evaluation_transform`, which replaces the random resized crop if `crop_scale` is 0.
    """
    geometry, colours, end = create_transform(
        **config,
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
        steps[:1] = evaluation_transform(config, crop_pct).transforms[:2]
    return Compose(steps)


def check_auto_augment(policy: str) -> None:
    """Refuse a policy that timm does not know, or partly ignores.

    Raises:
        KeyError: an unknown policy.
        TypeError: not a string.
        ValueError: an unknown or repeated section.

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
    """Raise a ValueError for colour jitter that timm ignores because of the policy."""
    if augmentation.color_jitter and augmentation.auto_augment and "3a" not in augmentation.auto_augment:
        raise ValueError(
            f"color_jitter {augmentation.color_jitter:g} has no effect with auto_augment "
            f"{augmentation.auto_augment!r} (timm ignores it): set one of them"
        )


@contextmanager
def seeded(key: Sequence[int]) -> Iterator[None]:
    """Seed the global random state of Python, NumPy and PyTorch (CPU) with a key; restore it at the end.

    Args:
        key: non-negative integers.

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
