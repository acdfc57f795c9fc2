"""Labelled images in memory, their statistics, and stratified subsets."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from lkd.data.prefetch import prefetch
from lkd.data.protocol import DataSet
from lkd.data.sanity_checks import (
    AXES,
    SplitSummary,
    Values,
    sampled,
    summarise,
    swapped_axes,
    values_of,
    warn_of_axes,
    warn_of_classes,
    warn_of_values,
)
from lkd.data.stream import FILES_ONLY, Augmentation, Labelled, Stream
from lkd.util.checks import check_unset

CHUNK = 256
"""Number of images that are digested at a time."""

if TYPE_CHECKING:
    from lkd.data.lazy import LazySplit

    PixelSplit: TypeAlias = "Split | LazySplit"

AnySplit = TypeVar("AnySplit", bound=Labelled)


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels, in a fixed order.

    Args:
        images: uint8 or float32, shape (N, C, H, W), N at least 1.
        labels: int64, shape (N,), at least 0.

    Raises:
        TypeError: a tensor of another dtype.
        ValueError: a wrong shape, channels that are not first, no image, a negative label, or a value that is not
            finite.

    Example:
        >>> import torch
        >>> from lkd.data import Split
        >>> len(Split(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0])))
        3
    """

    in_memory: ClassVar[bool] = True
    """Whether the images are in memory; see `lkd.data.from_datasets`."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        self._check_images()
        self._check_labels()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int] | np.ndarray | Tensor) -> "Split":
        """The images and labels at `indices`, in that order, as a copy.

        Raises:
            IndexError: an index outside the split.
            TypeError: indices that are not whole numbers, such as a mask.
            ValueError: no index.

        Example:
            >>> import torch
            >>> from lkd.data import Split
            >>> split = Split(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2]))
            >>> split.take([2, 0]).labels
            tensor([2, 0])
        """
        chosen = whole_indices(indices)
        return Split(self.images[chosen], self.labels[chosen])

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the images."""
        return self.images.dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def values(self) -> Values:
        """The range of the values of each image."""
        return values_of(self.images)

    @property
    def digests(self) -> Tensor:
        """A number for the content of each image, int64, shape (N,)."""
        return torch.tensor([digest(image) for image in self.images])

    def pixels(self, indices: Tensor) -> Tensor:
        """The images at `indices`, in that order."""
        return self.images[indices]

    def _check_images(self) -> None:
        images = self.images
        _check_tensor("images", images)
        if images.dtype not in (torch.uint8, torch.float32):
            raise TypeError(f"images are {images.dtype}: convert them to torch.uint8 (0..255) or torch.float32")
        if images.ndim != 4 or 0 in images.shape:
            raise ValueError(f"images have shape {tuple(images.shape)}: give (N, C, H, W), each at least 1")
        if swapped_axes(images.shape[1:]):
            raise ValueError(f"images have shape {tuple(images.shape)}, read as (N, C, H, W): {AXES}")
        if images.is_floating_point() and not images.isfinite().all():
            wrong = (~images.isfinite()).flatten(1).any(1).nonzero().flatten()
            raise ValueError(
                f"{len(wrong)} of {len(images)} images have values that are NaN or infinite, the first of them image "
                f"{int(wrong[0])}: remove or repair these images"
            )

    def _check_labels(self) -> None:
        labels = self.labels
        _check_tensor("labels", labels)
        if labels.dtype != torch.int64:
            raise TypeError(f"labels are {labels.dtype}: convert them with labels.to(torch.int64)")
        if labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)} for {len(self.images)} images: "
                f"give one label per image, shape ({len(self.images)},)"
            )
        if labels.min() < 0:
            raise ValueError(
                f"labels go down to {int(labels.min())}, the label of image {int(labels.argmin())}: number the classes "
                "from 0, and leave out images without a class"
            )


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one size, with their classes, their three splits, and the mean and std for normalisation.

    They are in memory, or read from your own data sets when they are needed (`from_datasets(..., in_memory=False)`).

    The constructor warns of classes without an image in a split, duplicate class names, splits that differ in value
    range or distribution, training images with a standard deviation far from 1 after normalisation, and channels that
    may not be first.

    Args:
        name: name of the data set.
        classes: name of each class; label k is `classes[k]`.
        train, val, test: splits with the same dtype, channels and size.
        mean, std: per channel; for uint8 images on the scale of [0, 1], for float images on their own scale (mean 0 and
            std 1 leave them unchanged).

    Raises:
        ValueError: splits that differ, a label without a class, or statistics that do not match the channels or, for
            uint8 images, are outside [0, 1].

    Example:
        >>> from lkd.data import load
        >>> data = load("digits")
        >>> data.channels, data.size, len(data.classes)
        (1, (32, 32), 10)
    """

    name: str
    classes: tuple[str, ...]
    train: "PixelSplit"
    val: "PixelSplit"
    test: "PixelSplit"
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, split in self.splits.items():
            self._check_split(name, split)
        self._check_statistics()
        warn_of_axes(self.train.shape)
        warn_of_classes(self.classes, {name: split.labels for name, split in self.splits.items()})
        warn_of_values({name: self._summary(split) for name, split in self.splits.items()})

    @property
    def splits(self) -> dict[str, "PixelSplit"]:
        """The three splits by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def channels(self) -> int:
        """Number of channels of every image."""
        return self.train.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.train.shape[1:]

    @property
    def fingerprint(self) -> str:
        """The identity of the data set; see `lkd.data.fingerprint`. Images that are not in memory are read once."""
        if all(split.in_memory for split in self.splits.values()):
            return self._digest()
        if (known := vars(self).get("_known_fingerprint")) is None:
            object.__setattr__(self, "_known_fingerprint", known := self._digest())
        return known

    def _digest(self) -> str:
        statistics = [float(value) for value in (*self.mean, *self.std)]
        found = hashlib.sha256(repr((tuple(self.classes), statistics)).encode())
        for name, split in self.splits.items():
            found.update(repr((name, str(split.dtype), (len(split), *split.shape))).encode())
            for chunk in torch.arange(len(split)).split(CHUNK):
                found.update(_bytes(split.pixels(chunk)))
            found.update(repr((name, str(split.labels.dtype), (len(split),))).encode())
            found.update(_bytes(split.labels))
        return found.hexdigest()[:16]

    def _summary(self, split: "PixelSplit") -> SplitSummary:
        sample = split.pixels(sampled(len(split), math.prod(split.shape)))
        return summarise(split.values, sample, self.normalise)

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images.

        Args:
            images: uint8 0..255, or float, shape (N, C, H, W).

        Returns:
            (images - mean) / std, float32, shape (N, C, H, W).
        """
        scale = 255.0 if self.train.dtype == torch.uint8 else 1.0
        mean, std = (scale * torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std

    def batches(
        self, split: "PixelSplit", indices: Tensor, size: int, workers: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Evaluation batches of a split: normalised images and labels; see `lkd.data.DataSet`.

        Example:
            >>> import torch
            >>> from lkd.data import load
            >>> data = load("digits")
            >>> [len(labels) for _, labels in data.batches(data.val, torch.arange(250), size=100)]
            [100, 100, 50]
        """
        return prefetch(partial(self._evaluated, split), indices.split(size), 0 if split.in_memory else workers)

    def stream(self, split: "PixelSplit", augmentation: Augmentation, batch_size: int, seed: int) -> "ImageStream":
        """The training batches of a split; see `lkd.data.Stream`."""
        return ImageStream(self, split, augmentation, batch_size, seed)

    def _evaluated(self, split: "PixelSplit", indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.normalise(split.pixels(indices)), split.labels[indices]

    def _check_split(self, name: str, split: "PixelSplit") -> None:
        ours = self.train
        if split.dtype != ours.dtype:
            raise ValueError(
                f"{name} images are {split.dtype}, train images {ours.dtype}: use the same dtype for all splits"
            )
        if split.shape != ours.shape:
            raise ValueError(
                f"{name} images have shape {split.shape}, train images {ours.shape} "
                "(channels, height, width): give all splits the same shape"
            )
        if (highest := int(split.labels.max())) >= len(self.classes):
            lowest = min(int(part.labels.min()) for part in self.splits.values())
            remedy = f"number the classes from 0, not from {lowest}" if lowest else "name every class"
            raise ValueError(
                f"{name} has label {highest}, classes names {len(self.classes)} (labels 0 to {len(self.classes) - 1}): "
                f"{remedy}, or correct the labels"
            )

    def _check_statistics(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise ValueError(f"{name} has {len(values)} values for {self.channels} channels: give one per channel")
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name} is {values}: give finite values")
            if self.train.dtype == torch.uint8 and not all(0 <= value <= 1 for value in values):
                raise ValueError(
                    f"{name} is {values}: for uint8 images, give it for images scaled to [0, 1] (divided by 255)"
                )
        if min(self.std) <= 0:
            raise ValueError(f"std is {self.std}: each must be above 0 (remove constant channels)")


class ImageStream(Stream):
    """Batches of images of one size; see `Stream`."""

    split: "PixelSplit"

    def __init__(
        self,
        data: Images,
        split: "PixelSplit",
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
    ):
        check_unset(augmentation, FILES_ONLY, "images in memory")
        _check_sides(augmentation, min(data.size))
        super().__init__(split, len(data.classes), augmentation, batch_size, seed)
        self.data = data

    def _read(self, epoch: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        draws = self._draws(epoch)
        index = draws.order[positions]
        return draws.augment(positions, self.split.pixels(index)).float(), self.split.labels[index]

    def _finish(self, images: Tensor) -> Tensor:
        return self.data.normalise(images)

    def _workers(self, workers: int) -> int:
        return 0 if self.split.in_memory else workers


def _check_sides(augmentation: Augmentation, side: int) -> None:
    """Refuse shifts out of the image, and squares that always cover it."""
    for name, most in (("crop", side), ("cutout", 2 * side)):
        if (value := getattr(augmentation, name)) >= most:
            raise ValueError(f"{name} must be below {most} for images of side {side}, got {value}")


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} are a {type(value).__name__}: give a tensor (torch.from_numpy(array))")


def digest(image: Tensor) -> int:
    """A number of 64 bits for the content of an image, with a sign."""
    return int.from_bytes(hashlib.blake2b(_bytes(image), digest_size=8).digest(), "big", signed=True)


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().numpy().data


def whole_indices(indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
    """Convert indices to int64.

    Raises:
        TypeError: indices that are not whole numbers, such as a mask.
        ValueError: no index.
    """
    if len(indices) == 0:
        raise ValueError("indices are empty: a split has at least one image")
    chosen = torch.as_tensor(indices)
    if chosen.dtype == torch.bool or chosen.is_floating_point():
        raise TypeError(f"indices are {chosen.dtype}: give whole numbers (for a mask, mask.nonzero().flatten())")
    return chosen.long()


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and (population) standard deviation of each channel, for images scaled to [0, 1].

    Computed in exact integers from the histogram of pixel values, with the same result on every machine.

    Args:
        images: uint8, shape (N, C, H, W).

    Returns:
        Mean and std, one value per channel.

    Raises:
        TypeError: images of another dtype.

    Example:
        >>> import torch
        >>> from lkd.data.images import channel_statistics
        >>> channel_statistics(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1))
        ((0.5,), (0.5,))
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images are {images.dtype}: statistics need torch.uint8 images")
    return statistics_of(histogram(images))


def histogram(images: Tensor) -> Tensor:
    """How often each value occurs in each channel, int64, shape (C, 256).

    Args:
        images: uint8, shape (N, C, H, W).

    Example:
        >>> import torch
        >>> from lkd.data.images import histogram
        >>> histogram(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))[0, :2].tolist()
        [32, 0]
    """
    channels = (images[:, channel].flatten() for channel in range(images.shape[1]))
    return torch.stack([torch.bincount(pixels, minlength=256) for pixels in channels])


def statistics_of(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`channel_statistics` of images with this `histogram`.

    Example:
        >>> import torch
        >>> from lkd.data.images import histogram, statistics_of
        >>> statistics_of(histogram(torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)))
        ((1.0,), (0.0,))
    """
    pairs = [_mean_and_std(channel) for channel in counts.tolist()]
    return tuple(mean for mean, _ in pairs), tuple(std for _, std in pairs)


def _mean_and_std(counts: Sequence[int]) -> tuple[float, float]:
    number = sum(counts)
    total = sum(value * count for value, count in enumerate(counts))
    squares = sum(value**2 * count for value, count in enumerate(counts))
    return total / (number * 255), math.sqrt(number * squares - total**2) / (number * 255)


def stratified_order(labels: Tensor, seed: int) -> np.ndarray:
    """A random order of all images that spreads each class evenly.

    For every n, the first n images contain the classes in proportion to their sizes, by Webster's (Sainte-Laguë's)
    apportionment of n seats. Classes of equal size differ by at most one image.

    Args:
        labels: int64, shape (N,).
        seed: seed of the order.

    Returns:
        Indices, int64, shape (N,).

    Example:
        >>> import torch
        >>> from lkd.data.images import stratified_order
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> sorted(labels[stratified_order(labels, seed=0)[:2]].tolist())
        [0, 1]
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    classes = labels.numpy()[shuffled]
    sizes = np.bincount(classes)
    by_class = np.argsort(classes, kind="stable")
    rank = np.empty(len(classes), dtype=np.int64)
    rank[by_class] = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return shuffled[np.argsort((rank + 0.5) / sizes[classes], kind="stable")]


def hold_out(split: AnySplit, count: int, seed: int) -> tuple[AnySplit, AnySplit]:
    """Hold out `count` images of a split, stratified by class; both parts keep the order of the split.

    Args:
        split: the split to divide.
        count: number of images to hold out, at least 1 and less than the size of the split.
        seed: seed of the choice; see `stratified_order`.

    Returns:
        The rest, and the held-out images.

    Raises:
        ValueError: a count that leaves one part empty.

    Example:
        >>> from lkd.data import load
        >>> from lkd.data.images import hold_out
        >>> [len(part) for part in hold_out(load("digits").train, 97, seed=0)]
        [1200, 97]
    """
    if not 0 < count < len(split):
        raise ValueError(f"cannot hold out {count} of {len(split)} images: count must be 1 to {len(split) - 1}")
    order = stratified_order(split.labels, seed)
    return split.take(np.sort(order[count:])), split.take(np.sort(order[:count]))


def subset(split: AnySplit, count: int, seed: int) -> AnySplit:
    """A random subset, stratified by class; smaller subsets are the beginning of larger ones.

    Args:
        split: the split to draw from.
        count: number of images, from 1 to the size of the split.
        seed: seed of the choice; see `stratified_order`.

    Raises:
        ValueError: a count out of range.

    Example:
        >>> from lkd.data import load, subset
        >>> subset(load("digits").train, 100, seed=0).labels.bincount().tolist()
        [10, 10, 10, 10, 10, 10, 10, 10, 10, 10]
    """
    if not 0 < count <= len(split):
        raise ValueError(f"cannot take {count} of {len(split)} images: count must be 1 to {len(split)}")
    return split.take(stratified_order(split.labels, seed)[:count])


def fingerprint(data: DataSet) -> str:
    """The identity of a data set: equal in all processes, and different after any change of its content.

    It covers the classes, the statistics, and dtype, shape and bytes of all splits, but not the name. Image files are
    identified by path, size and modification time.

    Returns:
        16 hexadecimal digits of a SHA-256.

    Example:
        >>> from lkd.data import fingerprint, load
        >>> len(fingerprint(load("digits")))
        16
    """
    return data.fingerprint
