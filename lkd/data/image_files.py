"""Labelled images in files: decoded on access, with reproducible transforms."""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision.transforms import Compose

from lkd.data.decoding import WARNED, decoded
from lkd.data.folders import LARGEST
from lkd.data.images import whole_indices
from lkd.data.prefetch import prefetch
from lkd.data.stream import MEMORY_ONLY, Augmentation, Stream
from lkd.data.summary import Account
from lkd.data.transforms import (
    INTERPOLATIONS,
    check_auto_augment,
    check_jitter,
    evaluation_transform,
    seeded,
    training_transform,
)
from lkd.util.checks import check_number, check_unset, check_whole, unknown

SIZE = 224
"""Default side of the images that a network gets."""

VIEW_FIELDS = ("image_size", "crop_pct", "interpolation", "damaged")
"""Fields of `View`; they have no effect on images in memory."""

DAMAGED = ("error", "skip")
"""How to treat an image that cannot be decoded."""


@dataclass(frozen=True)
class View:
    """How image files are resized, cropped and read.

    Args:
        image_size: side of the images that a network gets; 0 for 224.
        crop_pct: side of the evaluation's centre crop relative to the resized image.
        interpolation: "bicubic", "bilinear" or "nearest", in training and evaluation.
        damaged: treatment of an image that cannot be decoded. "error" stops and names it; "skip" replaces it by the
            next intact image of the split, with that image's label, in training and evaluation, and lists it in the
            data set's `damaged_files`.

    Raises:
        KeyError, TypeError, ValueError: an invalid value.
    """

    image_size: int = 0
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    damaged: str = "error"

    def __post_init__(self) -> None:
        check_whole("image_size", self.image_size, 0)
        check_number("crop_pct", self.crop_pct, 0, 1, above=True)
        if self.interpolation not in INTERPOLATIONS:
            raise KeyError(unknown("interpolation", self.interpolation, INTERPOLATIONS))
        if self.damaged not in DAMAGED:
            raise KeyError(unknown("treatment of damaged images", self.damaged, DAMAGED))


class DamagedImage(ValueError):
    """An image cannot be decoded; the message names its file."""


class Reader(Protocol):
    """Interface of timm's readers: random access to the bytes of each image."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...

    def filename(self, index: int, /) -> str | None:
        """File name of an image, for messages."""


class Listing:
    """The images of a reader, decoded one at a time; records the damaged ones.

    Args:
        reader: `reader[index]` is an open file and a label.
        place: location of the images, for messages.
        versions: returns a text per image, or one for all, that changes with the files.
    """

    def __init__(self, reader: Reader, place: str, versions: Callable[[], Iterable[str]]):
        self.reader, self.place, self.versions = reader, place, versions
        self._damaged = torch.zeros(len(reader), dtype=torch.bool).share_memory_()
        self._warned = torch.zeros(len(WARNED), dtype=torch.bool).share_memory_()

    def name(self, index: int) -> str:
        """Name of an image, for messages."""
        return f"{self.place}/{self.reader.filename(index) or f'image {index}'}"

    def image(self, index: int) -> Image.Image:
        """Decode an image as RGB; warn once for each property of `WARNED`, on the first image that has it.

        Raises:
            DamagedImage: it cannot be decoded.
            OSError: its file cannot be read.
        """
        image, care = self.decoded(index)
        for place, (kind, problem) in enumerate(WARNED.items()):
            if kind in care and not self._warned[place]:
                self._warned[place] = True
                warnings.warn(f"{self.name(index)} has {problem}; `lkd data check` counts such images", stacklevel=2)
        return image

    def decoded(self, index: int) -> tuple[Image.Image, tuple[str, ...]]:
        """Decode an image as RGB, and list its properties that need attention; see `lkd.data.decoding.decoded`.

        Raises:
            DamagedImage: it cannot be decoded.
            OSError: its file cannot be read.
        """
        with self.reader[index][0] as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            content = file.read() if size <= LARGEST else b""
        try:
            if size > LARGEST:
                raise ValueError(f"its file has {size:,} bytes, more than any image that Pillow decodes")
            return decoded(content)
        except MemoryError:
            raise
        except Exception as error:
            self._damaged[index] = True
            problem = str(error) or type(error).__name__
            raise DamagedImage(
                f"{self.name(index)} cannot be decoded ({problem}): replace or remove it, or set damaged='skip'"
            ) from error

    @property
    def damaged(self) -> list[str]:
        """Names of the damaged images found so far by this process and its workers."""
        return [self.name(index) for index in self._damaged.nonzero().flatten().tolist()]


@dataclass(frozen=True, eq=False)
class FileSplit:
    """Images in files and their labels, in a fixed order.

    Args:
        listing: the images.
        indices: their indices in the listing, int64, shape (N,).
        labels: int64, shape (N,).
    """

    listing: Listing
    indices: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int] | np.ndarray | Tensor) -> "FileSplit":
        """The images and labels at `indices`, in that order; see `lkd.data.Split.take`."""
        chosen = whole_indices(indices)
        return FileSplit(self.listing, self.indices[chosen], self.labels[chosen])

    def read(self, index: int, skip_damaged: bool) -> tuple[Image.Image, int]:
        """An image and its label; with `skip_damaged`, the next intact image in place of a damaged one.

        Raises:
            DamagedImage: it cannot be decoded.
            ValueError: no image of the split can be decoded.
        """
        for place in chain(range(index, len(self)), range(index)):
            try:
                return self.listing.image(int(self.indices[place])), int(self.labels[place])
            except DamagedImage:
                if not skip_damaged:
                    raise
        raise ValueError(f"none of the {len(self)} images of a split in {self.listing.place} can be decoded: fix them")


@dataclass(frozen=True, eq=False)
class Files:
    """A data set of image files, with its classes, its three splits and its transforms.

    Evaluation uses timm's transforms (resize, centre crop, normalise), training uses timm's training transforms.

    Args:
        name: name of the data set in a recipe.
        classes: name of each class; label k is `classes[k]`.
        train, val, test: the splits.
        view: how images are resized, cropped and read.
        mean, std: per channel, for images scaled to [0, 1]; by default ImageNet's, as for most networks of timm.
        account: origin of the splits, and ignored files.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from lkd.data import load
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for split in ("train", "val", "test"):
        ...         for label in ("cat", "dog"):
        ...             path = Path(folder, split, label, "1.png")
        ...             path.parent.mkdir(parents=True)
        ...             Image.new("RGB", (40, 30)).save(path)
        ...     data = load(f"folder:{folder}", image_size=32)
        ...     data.classes, data.size, len(data.train), next(data.batches(data.val, torch.arange(2), 2))[0].shape
        (('cat', 'dog'), (32, 32), 2, torch.Size([2, 3, 32, 32]))
    """

    name: str
    classes: tuple[str, ...]
    train: FileSplit
    val: FileSplit
    test: FileSplit
    view: View
    mean: tuple[float, ...] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, ...] = IMAGENET_DEFAULT_STD
    account: Account = field(default_factory=Account, kw_only=True)

    @property
    def splits(self) -> dict[str, FileSplit]:
        """The three splits by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def channels(self) -> int:
        """Number of channels of every image."""
        return 3

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every image after resizing and cropping."""
        side = self.view.image_size or SIZE
        return side, side

    @cached_property
    def fingerprint(self) -> str:
        """The identity of the data set when first accessed; see `lkd.data.fingerprint`."""
        digest = hashlib.sha256(repr((self.classes, self.mean, self.std)).encode())
        for name, split in self.splits.items():
            digest.update(name.encode() + split.indices.numpy().tobytes() + split.labels.numpy().tobytes())
        for listing in self._listings:
            for version in listing.versions():
                digest.update(version.encode() + b"\0")
        return digest.hexdigest()[:16]

    @property
    def _listings(self) -> list[Listing]:
        return list({id(split.listing): split.listing for split in self.splits.values()}.values())

    @property
    def damaged_files(self) -> tuple[str, ...]:
        """Names of the damaged images found so far by this process and its workers, in any split."""
        return tuple(name for listing in self._listings for name in listing.damaged)

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images.

        Args:
            images: uint8 0..255, or float 0..1, shape (N, 3, H, W).

        Returns:
            (images - mean) / std, float32, shape (N, 3, H, W).
        """
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        mean, std = (scale * torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std

    def batches(
        self, split: FileSplit, indices: Tensor, size: int, workers: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Evaluation batches of a split: images under timm's evaluation transform, and labels; see `lkd.data.DataSet`.

        Raises:
            DamagedImage: an image cannot be decoded, unless damaged images are skipped.
        """
        chunks = [chosen for chosen in indices.split(size) if len(chosen)]
        return prefetch(partial(self._evaluated, split), chunks, workers)

    def stream(self, split: FileSplit, augmentation: Augmentation, batch_size: int, seed: int) -> "FileStream":
        """The training batches of a split; see `FileStream`."""
        return FileStream(self, split, augmentation, batch_size, seed)

    def train_transform(self, augmentation: Augmentation) -> Compose:
        """The transform of training images."""
        return training_transform(augmentation, self._input, self.view.crop_pct)

    @cached_property
    def eval_transform(self) -> Compose:
        """The transform of evaluation images."""
        return evaluation_transform(self._input, self.view.crop_pct)

    @property
    def _input(self) -> dict[str, Any]:
        shape = (self.channels, *self.size)
        return {"input_size": shape, "interpolation": self.view.interpolation, "mean": self.mean, "std": self.std}

    def _evaluated(self, split: FileSplit, indices: Tensor) -> tuple[Tensor, Tensor]:
        read = [split.read(index, self.view.damaged == "skip") for index in indices.tolist()]
        images = torch.stack([self.eval_transform(image) for image, _ in read])
        return images, torch.tensor([label for _, label in read])


class FileStream(Stream):
    """Batches of images in files; see `Stream`.

    Images are decoded and augmented once per position. timm's transforms draw from global random state, which is
    seeded with (seed, epoch, position) for each sample and restored afterwards.
    """

    split: FileSplit

    def __init__(self, data: Files, split: FileSplit, augmentation: Augmentation, batch_size: int, seed: int):
        check_unset(augmentation, MEMORY_ONLY, "images in files")
        super().__init__(split, len(data.classes), augmentation, batch_size, seed)
        check_auto_augment(augmentation.auto_augment)
        check_jitter(augmentation)
        self._transform = data.train_transform(augmentation)
        self._skip_damaged = data.view.damaged == "skip"

    def _read(self, epoch: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        order = self._draws(epoch).order
        read = [self._sample(epoch, position, int(order[position])) for position in positions.tolist()]
        return torch.stack([image for image, _ in read]), torch.tensor([label for _, label in read])

    def _sample(self, epoch: int, position: int, index: int) -> tuple[Tensor, int]:
        image, label = self.split.read(index, self._skip_damaged)
        with seeded((self.seed, epoch, position)):
            return self._transform(image), label

    def _finish(self, images: Tensor) -> Tensor:
        return images

    def _workers(self, workers: int) -> int:
        return workers
