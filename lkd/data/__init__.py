"""Built-in data sets, folders of images, and your own data sets."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lkd.data import digits, fashion_mnist, photographs
from lkd.data.custom import from_datasets
from lkd.data.image_files import VIEW_FIELDS, DamagedImage, Files, FileSplit, View
from lkd.data.images import Images, Split, fingerprint, subset
from lkd.data.protocol import DataSet
from lkd.data.sources import SCHEMES, from_files, scheme
from lkd.data.stream import Augmentation, Batch, Labelled, Stream
from lkd.data.summary import accounted
from lkd.util.checks import check_unset, unknown

__all__ = [
    "SCHEMES",
    "SOURCES",
    "VIEW_FIELDS",
    "Augmentation",
    "Batch",
    "DamagedImage",
    "DataSet",
    "FileSplit",
    "Files",
    "Images",
    "Labelled",
    "Split",
    "Stream",
    "View",
    "accounted",
    "fingerprint",
    "from_datasets",
    "load",
    "scheme",
    "subset",
    "unknown_data",
]

SOURCES: dict[str, Callable[..., Images]] = {
    "digits": digits.digits,
    "fashion_mnist": fashion_mnist.fashion_mnist,
    "tiny_imagenet_32": photographs.tiny_imagenet_32,
    "cifar10_jpeg": photographs.cifar10_jpeg,
}


def load(name: str, folder: str | Path | None = None, **view: Any) -> DataSet:
    """Load a data set by name. Images in memory are cached per process; image files are listed at each call.

    Args:
        name: a key of `SOURCES`, for uint8 images (N, C, H, W) in memory; or, for image files, "folder:PATH",
            "tar:PATH" or "hfds:NAME": see `lkd.data.sources.from_files`.
        folder: folder with the files of the data set; by default, its usual locations.
        view: for image files, fields of `View`: image_size, crop_pct, interpolation and damaged.

    Raises:
        KeyError: unknown name.
        ValueError: `folder` for a data set that does not use it; a field of `View` for images in memory.

    Example:
        >>> from lkd.data import load
        >>> load("digits").train.images.shape
        torch.Size([1297, 1, 32, 32])
    """
    if scheme(name):
        if folder is not None:
            raise ValueError(f"folder is {str(folder)!r}, but {name!r} already names a folder: leave it out")
        return from_files(name, View(**view))
    if name not in SOURCES:
        raise KeyError(unknown_data(name))
    check_unset(View(**view), VIEW_FIELDS, f"images in memory ({name!r})")
    source = SOURCES[name]
    if folder is None:
        return _load(source)
    if "folder" not in inspect.signature(source).parameters:
        raise ValueError(f"folder is {str(folder)!r}, but data set {name!r} does not use one: leave it out")
    return _load(source, Path(folder).expanduser().resolve())


def unknown_data(name: str) -> str:
    """Error message for an unknown data set."""
    return unknown("data set", name, [*SOURCES, *(f"{prefix}:PATH" for prefix in SCHEMES if prefix != "wds")])


@functools.cache
def _load(source: Callable[..., Images], *folder: Path) -> Images:
    return source(*folder)
