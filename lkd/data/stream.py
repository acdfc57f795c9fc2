"""The stream: the training batches of a recipe, each a function of (seed, epoch, position) alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lkd.data.augment import boxes, crop_and_flip, soften
from lkd.data.images import Images, Split


class Batch(NamedTuple):
    """One process's share of a training batch.

    `images` `(b, C, H, W)` float32, normalised; `target` `(b,)` int64, or `(b, classes)` float32 where labels are mixed
    or smoothed; `positions` `(b,)` int64, the places of these samples in the epoch.
    """

    images: Tensor
    target: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Augmentation:
    """What is done to the training images.

    Args:
        crop: shift by up to this many pixels each way, zeros moving in.
        flip: mirror half of the images left to right.
        cutout: blank a square of this side at a random place (DeVries and Taylor 2017, arXiv 1708.04552).
        mixup: alpha of mixup's Beta distribution, 0 for none (Zhang et al. 2018, arXiv 1710.09412).
        cutmix: alpha of CutMix's Beta distribution, 0 for none (Yun et al. 2019, arXiv 1905.04899). With both, each
            image gets one or the other, evenly.
        smoothing: label smoothing.
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    smoothing: float = 0.0

    @property
    def mixes(self) -> bool:
        """Whether a sample holds two images."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def cutmix_share(self) -> float:
        """The share of samples that CutMix takes; mixup takes the others."""
        return 0.5 * ((self.cutmix > 0) + (self.cutmix > 0 and self.mixup == 0))


class Stream:
    """Shuffled, augmented and mixed batches of a training split.

    Sample order, augmentation and mixing of the sample at a position of an epoch depend on (seed, epoch, position) and
    on nothing else: not on the process that asks, nor on what was asked before, nor on global random state. A sample is
    mixed with the one at the mirrored position of its global batch. The last batch of an epoch is dropped when it is
    not full.

    Args:
        data: the data set; its training split, mean and std are used.
        split: the images to train on, `data.train` or a part of it.
        augmentation: what is done to them.
        batch_size: samples in a global batch.
        seed: of all draws.

    Raises:
        ValueError: fewer images than a batch holds.

    Example:
        >>> from lkd.data import Augmentation, Stream, load
        >>> data = load("digits")
        >>> stream = Stream(data, data.train, Augmentation(flip=True), batch_size=64, seed=0)
        >>> stream.steps, stream.batch(epoch=0, step=3).images.shape
        (20, torch.Size([64, 1, 32, 32]))
    """

    def __init__(self, data: Images, split: Split, augmentation: Augmentation, batch_size: int, seed: int):
        if len(split) < batch_size:
            raise ValueError(f"batch_size {batch_size} is more than the {len(split)} training images: lower batch_size")
        self.data, self.split, self.augmentation = data, split, augmentation
        self.batch_size, self.seed = batch_size, seed
        self.steps = len(split) // batch_size
        self._draws = lru_cache(maxsize=1)(lambda epoch: _Draws(len(split), augmentation, (seed, epoch)))

    def batch(self, epoch: int, step: int, process: int = 0, processes: int = 1) -> Batch:
        """The share of `process` in the global batch of a step: every `processes`-th sample of it."""
        first = step * self.batch_size
        positions = torch.arange(first + process, first + self.batch_size, processes)
        draws = self._draws(epoch)
        images, target = self._view(draws, positions)
        if self.augmentation.mixes:
            mirrored = 2 * first + self.batch_size - 1 - positions
            images, target = draws.mix(positions, images, target, *self._view(draws, mirrored))
        return Batch(self.data.normalise(images), target, positions)

    def batches(
        self, epoch: int, first_step: int = 0, process: int = 0, processes: int = 1, workers: int = 0
    ) -> Iterator[Batch]:
        """The share of `process` in each step of an epoch from `first_step` on; `workers` are of no use in memory."""
        for step in range(first_step, self.steps):
            yield self.batch(epoch, step, process, processes)

    def _view(self, draws: "_Draws", positions: Tensor) -> tuple[Tensor, Tensor]:
        index = draws.order[positions]
        images = draws.augment(positions, self.split.images[index]).float()
        labels = self.split.labels[index]
        if self.augmentation.mixes or self.augmentation.smoothing:
            return images, soften(labels, len(self.data.classes), self.augmentation.smoothing)
        return images, labels


class _Draws:
    """All random draws of one epoch, by position. Each kind has a generator of its own, so that none moves another."""

    def __init__(self, count: int, augmentation: Augmentation, key: tuple[int, int]):
        order, crop, flip, cutout, kind, ratio, centre = (np.random.default_rng((*key, i)) for i in range(7))
        a = augmentation
        self.augmentation = a
        self.order = torch.from_numpy(order.permutation(count))
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


def _beta(rng: np.random.Generator, alpha: float, count: int) -> np.ndarray:
    return rng.beta(alpha, alpha, count) if alpha else np.ones(count)
