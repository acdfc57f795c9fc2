"""The training batches of a recipe: each depends on (seed, epoch, position) and nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from lkd.data.augment import boxes, crop_and_flip, soften
from lkd.data.prefetch import prefetch
from lkd.util.checks import check_flag, unknown

BALANCES = ("none", "sampling")
"""How classes of different sizes are drawn."""


class Labelled(Protocol):
    """A split: images in a fixed order, with labels that are available without reading the images."""

    @property
    def labels(self) -> Tensor:
        """Int64, shape (N,), at least 0."""

    def __len__(self) -> int: ...

    def take(self, indices: Sequence[int] | np.ndarray | Tensor) -> Self:
        """The images and labels at `indices`, in that order."""


class Batch(NamedTuple):
    """One process's share of a training batch.

    `images` `(b, C, H, W)` float32, normalised; `target` `(b,)` int64, or `(b, classes)` float32 with mixed or smoothed
    labels; `positions` `(b,)` int64, positions of the samples in the epoch.
    """

    images: Tensor
    target: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of the training images.

    `crop` and `cutout` apply to images of one size, in memory or in your own data sets; `crop_scale`, `color_jitter`,
    `auto_augment` and `erasing` to image files, through timm's transforms; the others to both.

    Args:
        crop: maximum shift in pixels in each direction, filled with zeros.
        flip: mirror half of the images left to right.
        cutout: side of a blank square at a random position (DeVries and Taylor 2017, arXiv 1708.04552).
        mixup: alpha of mixup's Beta distribution, 0 for none (Zhang et al. 2018, arXiv 1710.09412).
        cutmix: alpha of CutMix's Beta distribution, 0 for none (Yun et al. 2019, arXiv 1905.04899). With both, each
            image gets either with probability 1/2.
        smoothing: label smoothing.
        crop_scale: minimum area of a random resized crop relative to the image (0.08 for ImageNet); 0 to resize and
            crop as in evaluation.
        color_jitter: strength of random brightness, contrast and saturation.
        auto_augment: a policy of timm, such as "rand-m9-mstd0.5-inc1"; "" for none.
        erasing: share of images with a random rectangle of noise (Zhong et al. 2017, arXiv 1708.04896).
        repeats: repetitions of each drawn image at consecutive positions, each with its own augmentation: in one global
            batch, on different processes if there are several. The length of an epoch does not change, so it shows
            fewer images (Hoffer et al. 2020, arXiv 1901.09335).
        balance: "sampling" to draw each class equally often in every epoch, whatever its number of images: those of a
            small class are repeated, those of a large one take turns over the epochs. "none" to draw each image once.

    Raises:
        KeyError: an unknown balance.
        TypeError: flip is not True or False.
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    smoothing: float = 0.0
    crop_scale: float = 0.0
    color_jitter: float = 0.0
    auto_augment: str = ""
    erasing: float = 0.0
    repeats: int = 1
    balance: str = "none"

    def __post_init__(self) -> None:
        check_flag("flip", self.flip)
        if self.balance not in BALANCES:
            raise KeyError(unknown("balance", self.balance, BALANCES))

    @property
    def mixes(self) -> bool:
        """Whether samples mix two images."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def cutmix_share(self) -> float:
        """The share of samples with CutMix; the others get mixup."""
        return 0.5 * ((self.cutmix > 0) + (self.cutmix > 0 and self.mixup == 0))


MEMORY_ONLY = ("crop", "cutout")
"""Fields of `Augmentation` that have no effect on images in files."""

FILES_ONLY = ("crop_scale", "color_jitter", "auto_augment", "erasing")
"""Fields of `Augmentation` that have no effect on images in memory."""


class Stream(ABC):
    """Shuffled, augmented and mixed batches of a training split; `data.stream(...)` makes the stream of a data set.

    Order, augmentation and mixing of samples depend on (seed, epoch, position) only: not on the process, on earlier
    batches, or on global random state. Each sample is mixed with the one at the mirrored position of its global batch.
    The last batch of an epoch is dropped when it is not full.

    Several processes share a global batch evenly. Position k goes to process `k % processes`; with mixing, position k
    and its mirrored position both go to process `min(k, batch_size - 1 - k) % processes`, to read each image once.

    Args:
        split: the images to train on.
        classes: number of classes.
        augmentation: how images and labels are augmented.
        batch_size: samples in a global batch.
        seed: seed of all random draws.

    Raises:
        ValueError: fewer images than a batch holds; augmentation that has no effect on these images, or that always
            covers them.

    Example:
        >>> from lkd.data import Augmentation, load
        >>> data = load("digits")
        >>> stream = data.stream(data.train, Augmentation(flip=True), batch_size=64, seed=0)
        >>> stream.steps, stream.batch(epoch=0, step=3).images.shape
        (20, torch.Size([64, 1, 32, 32]))
    """

    def __init__(self, split: Labelled, classes: int, augmentation: Augmentation, batch_size: int, seed: int):
        if len(split) < batch_size:
            raise ValueError(f"batch_size {batch_size} is more than the {len(split)} training images: lower batch_size")
        self.split, self.classes, self.augmentation = split, classes, augmentation
        self.batch_size, self.seed = batch_size, seed
        self.steps = len(split) // batch_size
        self._latest: tuple[int, _Draws] | None = None

    def batch(self, epoch: int, step: int, process: int = 0, processes: int = 1) -> Batch:
        """The share of `process` in the global batch of a step.

        Raises:
            ValueError: the processes cannot share the global batch evenly; names batch sizes that fit.
        """
        positions = self._share(step, process, processes)
        images, labels = self._read(epoch, positions)
        if not self.augmentation.mixes and not self.augmentation.smoothing:
            return Batch(self._finish(images), labels, positions)
        target = soften(labels, self.classes, self.augmentation.smoothing)
        if self.augmentation.mixes:
            images, target = self._draws(epoch).mix(positions, images, target, images.flip(0), target.flip(0))
        return Batch(self._finish(images), target, positions)

    def batches(
        self, epoch: int, first_step: int = 0, process: int = 0, processes: int = 1, workers: int = 0
    ) -> Iterator[Batch]:
        """Iterate over the batches of an epoch.

        Args:
            epoch: number of the epoch.
            first_step: first step, to resume an epoch.
            process, processes: index and number of the processes that share a global batch.
            workers: processes that prefetch image files; their number does not change the batches.

        Raises:
            ValueError: the processes cannot share the global batch evenly; names batch sizes that fit.

        Example:
            >>> from lkd.data import Augmentation, load
            >>> data = load("digits")
            >>> stream = data.stream(data.train, Augmentation(), batch_size=64, seed=0)
            >>> len(list(stream.batches(epoch=0, first_step=15)))
            5
        """
        self._share(0, process, processes)
        self._draws(epoch)
        one = partial(self.batch, epoch, process=process, processes=processes)
        return prefetch(one, range(first_step, self.steps), self._workers(workers))

    def _share(self, step: int, process: int, processes: int) -> Tensor:
        """Positions in the epoch of the samples of a process, in ascending order."""
        mixes = self.augmentation.mixes
        unit = (2 if mixes else 1) * processes
        if processes > 1 and self.batch_size % unit:
            below = self.batch_size // unit * unit
            fitting = f"{below} or {below + unit}" if below else f"{unit}"
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared evenly by {processes} processes"
                f"{' that mix images in pairs' if mixes else ''}: give a multiple of {unit}, such as {fitting}"
            )
        places = torch.arange(self.batch_size)
        turn = torch.minimum(places, places.flip(0)) if mixes else places
        return step * self.batch_size + places[turn % processes == process]

    def _draws(self, epoch: int) -> "_Draws":
        if self._latest is None or self._latest[0] != epoch:
            self._latest = epoch, _Draws(self.split.labels, self.augmentation, (self.seed, epoch))
        return self._latest[1]

    @abstractmethod
    def _read(self, epoch: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented images and labels at positions of an epoch."""

    @abstractmethod
    def _finish(self, images: Tensor) -> Tensor:
        """The images after mixing as a network takes them."""

    @abstractmethod
    def _workers(self, workers: int) -> int:
        """Number of worker processes, out of `workers` that are allowed."""


class _Draws:
    """All random draws of an epoch, by position. Each kind of draw has its own generator, independent of the others."""

    def __init__(self, labels: Tensor, augmentation: Augmentation, key: tuple[int, int]):
        order, crop, flip, cutout, kind, ratio, centre = (np.random.default_rng((*key, i)) for i in range(7))
        a, count = augmentation, len(labels)
        self.augmentation = a
        balanced = a.balance == "sampling"
        drawn = balanced_order(labels, -(-count // a.repeats), order) if balanced else order.permutation(count)
        self.order = torch.from_numpy(drawn.repeat(a.repeats)[:count])
        self.shift = torch.from_numpy(crop.integers(-a.crop, a.crop, (count, 2), endpoint=True))
        self.flip = torch.from_numpy(flip.random(count) < 0.5) & a.flip
        self.cutout = torch.from_numpy(cutout.random((count, 2)))
        self.cut = torch.from_numpy(kind.random(count) < a.cutmix_share)
        self.kept = torch.from_numpy(
            np.where(self.cut, _beta(ratio, a.cutmix, count), _beta(ratio, a.mixup, count)).astype(np.float32)
        )
        self.centre = torch.from_numpy(centre.random((count, 2)))

    def augment(self, positions: Tensor, images: Tensor) -> Tensor:
        images = crop_and_flip(images, self.shift[positions], self.flip[positions])
        if self.augmentation.cutout:
            sides = torch.full((len(positions), 2), self.augmentation.cutout)
            images = images * ~boxes(self.cutout[positions], sides, (images.shape[2], images.shape[3]))
        return images

    def mix(
        self, positions: Tensor, images: Tensor, target: Tensor, other_images: Tensor, other_target: Tensor
    ) -> tuple[Tensor, Tensor]:
        height, width = images.shape[2:]
        kept, cut = self.kept[positions], self.cut[positions]
        sides = ((1 - kept).sqrt()[:, None] * torch.tensor([height, width])).long()
        box = boxes(self.centre[positions], sides, (height, width))
        kept = torch.where(cut, 1 - box.flatten(1).float().mean(1), kept)
        weight = torch.where(cut[:, None, None, None], (~box).float(), kept[:, None, None, None])
        mixed = weight * images + (1 - weight) * other_images
        return mixed, kept[:, None] * target + (1 - kept[:, None]) * other_target


def balanced_order(labels: Tensor, count: int, rng: np.random.Generator) -> np.ndarray:
    """A random order of `count` images with equally many of each class, which differ by at most one.

    Within a class, no image is drawn again before all have been drawn equally often.

    Args:
        labels: int64, shape (N,).
        count: number of images to draw.
        rng: random generator.

    Returns:
        Indices, int64, shape (count,).

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from lkd.data.stream import balanced_order
        >>> labels = torch.tensor([0, 0, 0, 0, 1])
        >>> labels[balanced_order(labels, 6, np.random.default_rng(0))].bincount().tolist()
        [3, 3]
    """
    by_class = labels.argsort(stable=True).numpy()
    members = np.split(by_class, labels.bincount().cumsum(0)[:-1].numpy())
    members = [each for each in members if len(each)]
    more = rng.permutation(len(members)) < count % len(members)
    seats = count // len(members) + more
    drawn = [_in_turns(each, number, rng) for each, number in zip(members, seats.tolist(), strict=True)]
    return rng.permutation(np.concatenate(drawn))


def _in_turns(members: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    rounds = [rng.permutation(members) for _ in range(-(-count // len(members)))]
    return np.concatenate([*rounds, members[:0]])[:count]


def _beta(rng: np.random.Generator, alpha: float, count: int) -> np.ndarray:
    return rng.beta(alpha, alpha, count) if alpha else np.ones(count)
