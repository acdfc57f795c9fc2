"""Data sets by name, in memory or in files, or made of your own data sets."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lkd.data import digits, fashion_mnist
from lkd.data.accounting import accounted
from lkd.data.custom import from_datasets
from lkd.data.image_files import VIEW_FIELDS, DamagedImage, Files, FileSplit, View
from lkd.data.images import Images, Split, fingerprint, subset
from lkd.data.protocol import DataSet
from lkd.data.sources import SCHEMES, from_files, scheme
from lkd.data.stream import Augmentation, Batch, Labelled, Stream
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
}


def load(name: str, folder: str | Path | None = None, **view: Any) -> DataSet:
    """The data set called `name`; those in memory are loaded once a process, files are listed each time.

    Args:
        name: a key of `SOURCES`, for uint8 images (N, C, H, W) in memory; or, for images in files, "folder:PATH",
            "tar:PATH" or "hfds:NAME": see `lkd.data.sources.from_files`.
        folder: where the files of a source lie; without it, the source looks in its usual places.
        view: for images in files, fields of `View`: image_size, crop_pct, interpolation and damaged.

    Raises:
        KeyError: no data set has that name.
        ValueError: `folder` given for a data set that is not read from it; a field of `View` for images in memory.
        Exception: what the source itself raises, see there.

    Example:
        >>> from lkd.data import load
        >>> load("digits").train.images.shape
        torch.Size([1297, 1, 32, 32])
    """
    if scheme(name):
        if folder is not None:
            raise ValueError(f"folder is {str(folder)!r}, but {name!r} says where its files lie: leave it out")
        return from_files(name, View(**view))
    if name not in SOURCES:
        raise KeyError(unknown_data(name))
    check_unset(View(**view), VIEW_FIELDS, f"images in memory ({name!r})")
    source = SOURCES[name]
    if folder is None:
        return _load(source)
    if "folder" not in inspect.signature(source).parameters:
        raise ValueError(f"folder is {str(folder)!r}, but data set {name!r} is not read from a folder: leave it out")
    return _load(source, Path(folder).expanduser().resolve())


def unknown_data(name: str) -> str:
    """What to say of a data set that nothing here is called."""
    return unknown("data set", name, [*SOURCES, *(f"{prefix}:PATH" for prefix in SCHEMES if prefix != "wds")])


@functools.cache
def _load(source: Callable[..., Images], *folder: Path) -> Images:
    return source(*folder)
