"""Data sets that are downloaded at first use."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lkd.data import fashion_mnist, photographs


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


DOWNLOADS = {
    "fashion_mnist": Download("Fashion-MNIST", 31, (55_000, 5_000, 10_000), 10, 1, fashion_mnist.find_folder),
    "tiny_imagenet_32": Download(
        "Tiny ImageNet at 32x32", 44, (90_000, 10_000, 10_000), 200, 3, photographs.TINY_IMAGENET_32.find_cache
    ),
    "cifar10_jpeg": Download(
        "CIFAR-10 as JPEG", 20, (45_000, 5_000, 10_000), 10, 3, photographs.CIFAR10_JPEG.find_cache
    ),
}
"""The data sets that are downloaded, by name."""
