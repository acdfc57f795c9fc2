"""Shapes of data sets, found without downloads, and instructions for missing data and weights."""

import importlib.util
from functools import cache
from pathlib import Path
from typing import NamedTuple

import timm
import torch

from lkd.data import View, load
from lkd.data.downloads import DOWNLOADS
from lkd.data.image_files import SIZE
from lkd.engine.teacher_origin import in_hub_cache
from lkd.recipe import IN_MEMORY, Recipe


class Shape(NamedTuple):
    """Shape of a data set.

    Args:
        train, val, test: number of images of each split.
        classes: number of classes.
        channels, size: of an image as a network sees it; `size` is height and width.
    """

    train: int
    val: int
    test: int
    classes: int
    channels: int
    size: tuple[int, int]


class FoundShape(NamedTuple):
    """The shape of a data set, None if unknown, and how to get the images if they are missing."""

    shape: Shape | None
    missing: str = ""


def data_shape(recipe: Recipe) -> FoundShape:
    """Find the shape of a recipe's data without fetching anything.

    Folders of images are listed. The shapes of data sets that are downloaded, and of ImageNet-1k, are known without
    their images. A missing folder named imagenet is taken for ImageNet-1k: 1,281,167 training and 50,000 validation
    images of 1,000 classes (Russakovsky et al. 2015, arXiv 1409.0575). The validation images are the test split, and
    50,000 training images are held out (see `lkd.data.sources.from_files`).
    """
    return _find(recipe.data, View(**recipe.view))


def clear_cache() -> None:
    """Clear the cache of `data_shape`, as files may have changed since the last plan."""
    _find.cache_clear()


@cache
def _find(data: str, view: View) -> FoundShape:
    if source := DOWNLOADS.get(data):
        shape = Shape(*source.images, source.classes, source.channels, (32, 32))
        missing = f"{source.title} is not on this machine: it is downloaded on first use ({source.megabytes} MB)"
        return FoundShape(shape, "" if source.find() else missing)
    if data.startswith(IN_MEMORY):
        return FoundShape(None, f"{data} exists only in the memory of the program that made the recipe: plan there")
    kind, _, place = data.partition(":")
    if kind == "hfds" and importlib.util.find_spec("datasets") and not Path(place).is_dir():
        return _assumed(data, view, f"{data} was not opened, as that may download it")
    try:
        found = load(data, **vars(view))
    except (ImportError, OSError, ValueError) as error:
        return _assumed(data, view, str(error))
    counts = len(found.train), len(found.val), len(found.test)
    return FoundShape(Shape(*counts, len(found.classes), found.channels, found.size))


def _assumed(data: str, view: View, missing: str) -> FoundShape:
    """ImageNet-1k's shape for missing data of that name, None for others."""
    if Path(data.partition(":")[2]).name.lower() not in ("imagenet", "imagenet-1k"):
        return FoundShape(None, missing)
    side = view.image_size or SIZE
    shape = Shape(1_281_167 - 50_000, 50_000, 50_000, 1000, 3, (side, side))
    return FoundShape(shape, f"{missing}; until then its size is taken for ImageNet-1k's")


def missing_weights(name: str) -> str:
    """How to get the weights of a pretrained teacher of timm; "" if they are in a cache of this machine.

    Example:
        >>> from lkd.planning.data_shape import missing_weights
        >>> missing_weights("mini_slak")
        "teacher 'mini_slak' has no pretrained weights: give the recipe or run of a trained one"
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        return f"teacher {name!r} has no pretrained weights: give the recipe or run of a trained one"
    url = config.url if isinstance(config.url, str) else ""
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if (config.hf_hub_id and in_hub_cache(config)) or cached.is_file() or Path(config.file or "").is_file():
        return ""
    return (
        f"the weights of teacher {name!r} are not in the cache: they are downloaded from "
        f"{config.hf_hub_id or config.url or config.file} on first use; without network access, run this on another "
        f"machine and copy the cache: python -c \"import timm; timm.create_model('{name}', pretrained=True)\""
    )
