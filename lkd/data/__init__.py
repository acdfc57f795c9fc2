"""Data sets by name, or made of your own data sets, as images in memory."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path

from lkd.checks import unknown
from lkd.data import digits, fashion_mnist
from lkd.data.images import Images, Split, fingerprint, subset
from lkd.data.own import from_datasets
from lkd.data.stream import Augmentation, Batch, Stream

__all__ = [
    "SOURCES",
    "Augmentation",
    "Batch",
    "Images",
    "Split",
    "Stream",
    "fingerprint",
    "from_datasets",
    "load",
    "subset",
]

SOURCES: dict[str, Callable[..., Images]] = {
    "digits": digits.digits,
    "fashion_mnist": fashion_mnist.fashion_mnist,
}


def load(name: str, folder: str | Path | None = None) -> Images:
    """The data set called `name`, as uint8 images (N, C, H, W); a process loads each one once.

    Args:
        name: a key of `SOURCES`.
        folder: where its files lie; without it, the source looks in its usual places.

    Raises:
        KeyError: no data set has that name.
        ValueError: `folder` given for a data set that is not read from files.
        Exception: what the source itself raises, see there.

    Example:
        >>> from lkd.data import load
        >>> load("digits").train.images.shape
        torch.Size([1297, 1, 32, 32])
    """
    if name not in SOURCES:
        raise KeyError(unknown("data set", name, SOURCES))
    if folder is None:
        return _load(name)
    if "folder" not in inspect.signature(SOURCES[name]).parameters:
        raise ValueError(f"folder is {str(folder)!r}, but data set {name!r} is not read from a folder: leave it out")
    return _load(name, Path(folder).expanduser().resolve())


@functools.cache
def _load(name: str, *folder: Path) -> Images:
    return SOURCES[name](*folder)
