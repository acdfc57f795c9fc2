"""Custom data sets: of torchvision, of Hugging Face, or any other map-style data sets."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
from torch import Tensor
from tqdm import tqdm

from lkd.data.images import Images, Split, channel_statistics, digest, histogram, hold_out, statistics_of
from lkd.data.lazy import CHANGED, LazySplit, check_same_shape, read_once
from lkd.data.samples import Samples
from lkd.data.sanity_checks import warn, warn_of_mixture, warn_of_repeats
from lkd.data.splits import split_role
from lkd.util.checks import check_flag, check_number, unknown

MODES = ("RGB", "L")
"""Modes to which PIL images are converted."""

READ_AGAIN = 16
"""Number of samples of each data set that are read again, twice, to detect random transforms."""


class MapDataset(Protocol):
    """A map-style data set: `data[index]` is an (image, label) pair or a dict, `len(data)` the number of samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def from_datasets(
    train: MapDataset,
    test: MapDataset,
    *,
    val: MapDataset | None = None,
    classes: Sequence[str] | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
    mode: str | None = None,
    in_memory: bool = True,
    val_share: float = 0.1,
    seed: int = 0,
) -> Images:
    """Use your own data sets: of torchvision, of Hugging Face, lists, or any other map-style data sets.

    Samples are read once into memory or, with `in_memory=False`, whenever they are needed, with the same result.

    Samples must not be random: leave augmentation to the recipe. To keep one reading of a random data set, give
    `list(train)`.

    The function warns of images shared by two data sets, images with a different value range than the rest of their
    data set, and data sets that number their classes differently. `Images` warns of splits that differ in values or
    classes.

    Args:
        train, test: map-style data sets of (image, label) pairs, or of dicts. An image is a uint8 or float tensor of
            shape (C, H, W), a uint8 or float array of shape (H, W) or (H, W, C), or a PIL image; a label is an int
            from 0. All images have the same shape and dtype.
        val: the validation set; by default, `val_share` of train is held out, stratified by class.
        classes: name of each class; by default those of train: the names of a Hugging Face class label, or the
            attribute `classes` (of torchvision's data sets, without a target_transform). Without names, "0" to the
            highest label, if the labels start at 0 and more than half of these numbers occur.
        image_key, label_key: keys of image and label in samples that are dicts; by default "image" and "label", or else
            the only column of type Image or ClassLabel of a Hugging Face data set.
        mode: the mode to which PIL images of any mode are converted, "RGB" or "L" (grey); by default "L" if the first
            image of train is grey, and else "RGB". Transparency is dropped; of 16 bits, the upper 8 are kept.
        in_memory: False for images that do not fit into memory: samples are read when they are needed, by
            `lkd.Options(workers=...)` processes. All are read twice at first, to check them and to know their content,
            and each later reading is compared with the first. The identity, the batches and the runs are the same.
        val_share: share of train to hold out, between 0 and 1; not used with `val`.
        seed: seed of the choice of held-out images.

    Returns:
        Images with the name "custom". uint8 images have the mean and std of the training images; float images are used
        unchanged (mean 0, std 1).

    Raises:
        KeyError: an unknown mode; dicts without the keys of image and label.
        TypeError: a data set without length or indices, a sample that is not an (image, label) pair or a dict, an image
            or a label of another type.
        ValueError: an empty data set, images that do not fit into memory, an unreadable sample, a sample that changes
            when it is read again, images of different shapes, with channels in the wrong place or with values that are
            not finite, labels that do not number the classes, data sets for other splits.
        OSError: a sample with an unreadable file.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from lkd.data import from_datasets
        >>> train, test = (TensorDataset(torch.rand(n, 3, 32, 32), torch.arange(n) % 2) for n in (20, 10))
        >>> data = from_datasets(train, test, classes=("cat", "dog"))
        >>> len(data.train), len(data.val), len(data.test)
        (18, 2, 10)
    """
    check_flag("in_memory", in_memory)
    if mode is not None and mode not in MODES:
        raise KeyError(unknown("mode", mode, MODES))
    datasets = {"train": train, "test": test} | ({} if val is None else {"val": val})
    _check_roles(datasets)
    samples = _samples(datasets, image_key, label_key, mode)
    if in_memory:
        _check_memory(samples, val is None)
    read = {name: (_read(each), None) if in_memory else read_once(each) for name, each in samples.items()}
    splits = {name: split for name, (split, _) in read.items()}
    for name, each in samples.items():
        _check_repeatable(each, splits[name])
    labels = {name: split.labels for name, split in splits.items()}
    names = next((each.classes for each in samples.values() if each.classes), None)
    classes = classes if classes is not None else names or _class_names(labels)
    _check_classes(classes, labels)
    _warn_of_suspicious(samples, splits, classes)
    whole, counts = read["train"]
    held_out = 0 if val is not None else _val_count(len(whole), val_share)
    kept, held = hold_out(whole, held_out, seed) if held_out else (whole, splits["val"])
    mean, std = _statistics(kept, counts, [held] if held_out else [])
    return Images("custom", tuple(classes), kept, held, splits["test"], mean, std)


def _check_roles(datasets: Mapping[str, Any]) -> None:
    """Refuse two data sets that were loaded as the split of each other."""
    roles = {name: _role(dataset) for name, dataset in datasets.items()}
    for one, other in combinations(datasets, 2):
        if roles[one] == other and roles[other] == one:
            raise ValueError(
                f"{one} is the split {other!r} of its data set, and {other} the split {one!r}: swap them (data has the "
                "order train, test or train, val, test)"
            )


def _role(dataset: Any) -> str:
    """The split that a Hugging Face or torchvision data set was loaded as; "" if that is unknown."""
    if isinstance(trained := getattr(dataset, "train", None), bool):
        return "train" if trained else "test"
    return split_role(str(getattr(dataset, "split", "")))


def _samples(
    datasets: Mapping[str, Any], image_key: str | None, label_key: str | None, mode: str | None
) -> dict[str, Samples]:
    """The samples of each data set; PIL images get the mode that suits the first image of train."""
    found = {name: Samples(name, dataset, image_key, label_key, mode) for name, dataset in datasets.items()}
    found["train"][0]
    for samples in found.values():
        samples.follow(found["train"])
    return found


def _check_memory(samples: Mapping[str, Samples], holds_out: bool) -> None:
    """Refuse data sets that do not fit into memory; held-out images are copied with the rest of train."""
    image = samples["train"][0][0]
    counts = {name: len(each) * (2 if name == "train" and holds_out else 1) for name, each in samples.items()}
    needed, available = sum(counts.values()) * image.nbytes, available_memory()
    if needed > available:
        raise ValueError(
            f"{sum(map(len, samples.values())):,} images of {tuple(image.shape)} {image.dtype} need "
            f"{needed / 1e9:,.1f} GB while they are read into memory, and {available / 1e9:,.1f} GB are available: "
            "pass lkd.data.from_datasets(..., in_memory=False)"
        )


def available_memory() -> int:
    """Bytes of memory that this process can still get, within the limit of its container.

    Example:
        >>> from lkd.data.custom import available_memory
        >>> available_memory() > 0
        True
    """
    available = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no cgroup, or no limit ("max")
        return available
    return min(available, max(0, limit - used))


def _statistics(
    kept: Split | LazySplit, counts: Tensor | None, held: Sequence[Split | LazySplit]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of the training images.

    Args:
        kept: the training images.
        counts: the histogram of training and held-out images, if they are not in memory.
        held: the held-out images, if any.
    """
    if kept.dtype.is_floating_point:
        return (0.0,) * kept.shape[0], (1.0,) * kept.shape[0]
    low, high = kept.values.low.min(), kept.values.high.max()
    if low == high:
        raise ValueError(
            f"every value of every train image is {int(low)}: check how the images are read (floats in "
            "[0, 1] become 0 when cast to uint8: multiply them by 255 first)"
        )
    if counts is None:
        return channel_statistics(kept.images)
    for split in held:
        for place in torch.arange(len(split)).split(1):
            counts = counts - histogram(split.pixels(place))
    return statistics_of(counts)


def _val_count(available: int, share: float) -> int:
    check_number("val_share", share, 0, 1, above=True, below=True)
    count = round(available * share)
    if not 0 < count < available:
        raise ValueError(f"val_share {share} of {available} training images holds out {count}: give a val data set")
    return count


def _read(samples: Samples) -> Split:
    first, _ = samples[0]
    images = torch.empty((len(samples), *first.shape), dtype=first.dtype)
    labels = torch.empty(len(samples), dtype=torch.int64)
    for index in tqdm(range(len(samples)), desc=f"reading {samples.name}", delay=2, leave=False, disable=None):
        image, labels[index] = samples[index]
        check_same_shape(samples, index, image, first)
        images[index] = image
    return Split(images, labels)


def _check_repeatable(samples: Samples, split: Split | LazySplit) -> None:
    """Refuse random samples: some of them are read again and compared with the first reading."""
    last = len(split) - 1
    places = sorted({last * step // (READ_AGAIN - 1) for step in range(READ_AGAIN)})
    first = split.take(places)
    digests, labels = first.digests.tolist(), first.labels.tolist()
    changed = [
        samples.where(index)
        for place, index in enumerate(places)
        if any((digest(image), label) != (digests[place], labels[place]) for image, label in _twice(samples, index))
    ]
    if changed:
        named = ", ".join(changed[:3]) + (" and others" if len(changed) > 3 else "")
        raise ValueError(
            f"{samples.name} is random ({named} changed when read again): {CHANGED}, or give list({samples.name}) to "
            "keep one reading of each sample"
        )


def _twice(samples: Samples, index: int) -> list[tuple[Tensor, int]]:
    return [samples[index], samples[index]]


def _class_names(labels: dict[str, Tensor]) -> list[str]:
    """Default class names, "0" to the highest label.

    Raises:
        ValueError: labels that do not start at 0, or that leave out half of the numbers or more.
    """
    numbers = torch.cat(list(labels.values())).unique()
    lowest, highest = int(numbers[0]), int(numbers[-1])
    if lowest > 0 or 2 * len(numbers) <= highest:
        name = next(name for name in labels if (labels[name] == highest).any())
        where = f"{name}[{int((labels[name] == highest).nonzero()[0])}]"
        raise ValueError(
            f"labels go from {lowest} to {highest} (the label of {where}), with {len(numbers)} different ones: number "
            f"the classes 0 to {len(numbers) - 1}, leave out samples that have no class, or name every "
            f"class with classes=[str(k) for k in range({highest + 1})]"
        )
    return [str(label) for label in range(highest + 1)]


def _check_classes(classes: Sequence[str], labels: dict[str, Tensor]) -> None:
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f"classes is {classes!r}: give a list of names, one str for each class")
    for name, values in labels.items():
        if (highest := int(values.max())) >= len(classes):
            lowest = min(int(part.min()) for part in labels.values())
            remedy = f"number the classes from 0, not from {lowest}" if lowest else "name every class"
            raise ValueError(
                f"{name}[{int(values.argmax())}] has label {highest}, classes names {len(classes)} (labels 0 to "
                f"{len(classes) - 1}): {remedy}, or correct the labels"
            )


def _warn_of_suspicious(
    samples: Mapping[str, Samples], splits: Mapping[str, Split | LazySplit], classes: Sequence[str]
) -> None:
    """Warn of likely mistakes that only the data sets themselves reveal; `Images` warns of the others."""
    _warn_of_order(samples, classes)
    if len(classes) == 1:
        warn(f"there is only one class ({classes[0]!r}), so there is nothing to learn: check the labels")
    for name, split in splits.items():
        warn_of_mixture(name, split.values)
    datasets = {name: each.dataset for name, each in samples.items()}
    for name, other in (("test", "train"), ("val", "train"), ("val", "test")):
        if name in datasets and datasets[name] is datasets[other]:
            warn(f"{name} is the same data set as {other}: its accuracy says nothing about new images; give another")
    once = {id(dataset): name for name, dataset in reversed(datasets.items())}
    warn_of_repeats({name: splits[name].digests for name in reversed(once.values())})


def _warn_of_order(samples: Mapping[str, Samples], classes: Sequence[str]) -> None:
    """Warn of data sets with class names, like torchvision's, that number them differently."""
    orders = {name: names for name, each in samples.items() if (names := each.classes)}
    if sorted(classes) in map(sorted, orders.values()):
        orders["classes"] = list(classes)
    (first, names), *others = orders.items() if orders else [("", [])]
    for name, order in others:
        for number, (one, other) in enumerate(zip(names, order, strict=False)):
            if one != other:
                warn(f"label {number} is {one!r} in {first} and {other!r} in {name}: number the classes the same way")
                break
