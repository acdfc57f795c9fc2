"""The interface of data sets, in memory or in files."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor

from lkd.data.stream import Augmentation, Labelled, Stream


class DataSet(Protocol):
    """A data set: classes, three splits, evaluation batches and training streams."""

    @property
    def name(self) -> str:
        """Name of the data set."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class; label k is `classes[k]`."""

    @property
    def channels(self) -> int:
        """Number of channels of every image."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every image as a network gets it."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean for normalisation, one value per channel."""

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation for normalisation, one value per channel."""

    @property
    def train(self) -> Labelled:
        """The training split."""

    @property
    def val(self) -> Labelled:
        """The validation split."""

    @property
    def test(self) -> Labelled:
        """The test split."""

    @property
    def splits(self) -> Mapping[str, Labelled]:
        """The three splits by name."""

    @property
    def fingerprint(self) -> str:
        """The identity of the data set; see `lkd.data.fingerprint`."""

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images `(N, C, H, W)` to float32."""

    def batches(self, split: Any, indices: Tensor, size: int, workers: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Evaluation batches of a split: normalised images `(b, C, H, W)` and labels.

        Args:
            split: a split of this data set, or a part of one.
            indices: indices of the images, int64, shape (N,).
            size: images per batch; the last batch may be smaller.
            workers: processes that prefetch image files, without effect on the result; not used for images in memory.
        """

    def stream(self, split: Any, augmentation: Augmentation, batch_size: int, seed: int) -> Stream:
        """The training batches of a split; see `lkd.data.Stream`."""
