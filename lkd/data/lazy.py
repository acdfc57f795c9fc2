"""Images of custom data sets that are read when they are needed, and the same at every reading."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lkd.data.images import digest, histogram, whole_indices
from lkd.data.samples import Samples
from lkd.data.sanity_checks import Values, values_of

CHANGED = (
    "remove random transforms from the data set (lkd draws its own augmentation: set crop, flip and the other fields "
    "of lkd.Recipe)"
)
"""Remedy for samples that differ when they are read again."""


@dataclass(frozen=True, eq=False)
class LazySplit:
    """Images of a map-style data set, read at each access, and their labels, in a fixed order.

    Every image is compared with its digest of the first reading.

    Args:
        samples: the samples of the data set.
        indices: indices of the images in the data set, int64, shape (N,).
        labels: int64, shape (N,).
        digests: a number for the content of each image, int64, shape (N,).
        values: the range of the values of each image.
        dtype: dtype of the images.
        shape: channels, height and width of every image.
    """

    in_memory: ClassVar[bool] = False

    samples: Samples
    indices: Tensor
    labels: Tensor
    digests: Tensor
    values: Values
    dtype: torch.dtype
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """All images of the split, read into memory."""
        return self.pixels(torch.arange(len(self)))

    def take(self, indices: Sequence[int] | np.ndarray | Tensor) -> "LazySplit":
        """The images and labels at `indices`, in that order; see `lkd.data.Split.take`."""
        chosen = whole_indices(indices)
        return LazySplit(
            self.samples,
            self.indices[chosen],
            self.labels[chosen],
            self.digests[chosen],
            Values(*(each[chosen] for each in self.values)),
            self.dtype,
            self.shape,
        )

    def pixels(self, indices: Tensor) -> Tensor:
        """The images at `indices`, in that order.

        Raises:
            OSError: a file that cannot be read any more.
            ValueError: an image or label that differs from its first reading.
        """
        images = torch.empty((len(indices), *self.shape), dtype=self.dtype)
        for place, index in enumerate(indices.tolist()):
            images[place] = self._image(index)
        return images

    def _image(self, place: int) -> Tensor:
        index = int(self.indices[place])
        image, label = self.samples[index]
        if label != self.labels[place] or digest(image) != self.digests[place]:
            raise ValueError(f"{self.samples.where(index)} differs from its first reading: {CHANGED}")
        return image


def read_once(samples: Samples) -> tuple[LazySplit, Tensor]:
    """Read every sample of a data set once, and keep one image at a time in memory.

    Returns:
        The split, and the histogram of its images; see `lkd.data.images.histogram` (zeros for float images).

    Raises:
        Exception: a sample that is refused; see `lkd.data.from_datasets`.
    """
    count, first = len(samples), samples[0][0]
    labels, digests = torch.empty(count, dtype=torch.int64), torch.empty(count, dtype=torch.int64)
    ranges = []
    counts = torch.zeros(len(first), 256, dtype=torch.int64)
    for index in tqdm(range(count), desc=f"reading {samples.name}", delay=2, leave=False, disable=None):
        image, labels[index] = samples[index]
        check_same_shape(samples, index, image, first)
        digests[index] = digest(image)
        ranges.append(values_of(image[None]))
        if image.dtype == torch.uint8:
            counts += histogram(image[None])
    values = Values(*(torch.cat(parts) for parts in zip(*ranges, strict=True)))
    channels, height, width = first.shape
    shape = (channels, height, width)
    return LazySplit(samples, torch.arange(count), labels, digests, values, first.dtype, shape), counts


def check_same_shape(samples: Samples, index: int, image: Tensor, first: Tensor) -> None:
    """Refuse an image of another shape or dtype than the first one.

    Raises:
        ValueError: names both.
    """
    if image.shape != first.shape or image.dtype != first.dtype:
        raise ValueError(
            f"the image of {samples.where(index)} is {tuple(image.shape)} {image.dtype}, that of {samples.where(0)} "
            f"{tuple(first.shape)} {first.dtype}: give all images the same shape and dtype, for example with "
            "torchvision's Resize"
        )
