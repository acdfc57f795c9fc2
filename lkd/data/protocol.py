"""What the engine asks of a data set, whether its images lie in memory or in files."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor

from lkd.data.stream import Augmentation, Labelled, Stream


class DataSet(Protocol):
    """A data set: its classes, its three splits, how they are evaluated, and the streams that train on them."""

    @property
    def name(self) -> str:
        """What the data set is called."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class; label k is `classes[k]`."""

    @property
    def channels(self) -> int:
        """Number of channels of every image."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every image as a network sees it."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean that images are normalised with, one value a channel."""

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation that images are normalised with, one value a channel."""

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
        """Images `(N, C, H, W)` of this data set as a network sees them, float32."""

    def batches(self, split: Any, indices: Tensor, size: int, workers: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The images at `indices` of a split as they are evaluated, `(b, C, H, W)` and normalised, and their labels.

        Args:
            split: one of this data set, or a part of it.
            indices: int64, shape (N,).
            size: images in a batch; the last one may hold fewer.
            workers: processes that read ahead, where images are read from files.
        """

    def stream(self, split: Any, augmentation: Augmentation, batch_size: int, seed: int) -> Stream:
        """The training batches of a split; see `lkd.data.Stream`."""
