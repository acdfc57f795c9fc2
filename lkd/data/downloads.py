"""Data sets that are downloaded at first use."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lkd.data import fashion_mnist
from lkd.data.photographs import CIFAR10_JPEG, TINY_IMAGENET_32, Archive


@dataclass(frozen=True)
class Download:
    """A data set of 32x32 images that is downloaded at first use.

    Args:
        title: full name.
        megabytes: size of the download.
        images: number of images in train, val and test.
        classes, channels: number of classes and of image channels.
        find: returns the folder or file with the images on this machine; None without one.
    """

    title: str
    megabytes: int
    images: tuple[int, int, int]
    classes: int
    channels: int
    find: Callable[[], Path | None]


def _photographs(title: str, archive: Archive, images: tuple[int, int, int]) -> Download:
    return Download(title, archive.megabytes, images, archive.classes, 3, archive.find_cache)


DOWNLOADS = {
    "fashion_mnist": Download("Fashion-MNIST", 31, (55_000, 5_000, 10_000), 10, 1, fashion_mnist.find_folder),
    "tiny_imagenet_32": _photographs("Tiny ImageNet at 32x32", TINY_IMAGENET_32, (90_000, 10_000, 10_000)),
    "cifar10_jpeg": _photographs("CIFAR-10 as JPEG", CIFAR10_JPEG, (45_000, 5_000, 10_000)),
}
"""The data sets that are downloaded, by name."""
