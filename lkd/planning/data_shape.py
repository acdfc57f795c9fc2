"""What is known of data without opening it, and what of data and weights is not at hand."""

import importlib.util
from functools import cache
from pathlib import Path
from typing import NamedTuple

import timm
import torch

from lkd.data import SOURCES, DataSet, View, load
from lkd.data.fashion_mnist import CLASSES, DEBIAN_FOLDER, PADDING, SHA256, VALIDATION
from lkd.data.image_files import SIZE
from lkd.engine.teacher_origin import in_hub_cache
from lkd.recipe import IN_MEMORY, Recipe
from lkd.util.files import home

_FASHION_SIDE = 28 + 2 * PADDING


class Shape(NamedTuple):
    """How many images the splits of a data set have, and what a network sees of one.

    Args:
        train, val, test: numbers of images.
        classes: how many.
        channels, size: of an image; height and width.
    """

    train: int
    val: int
    test: int
    classes: int
    channels: int
    size: tuple[int, int]


class Known(NamedTuple):
    """The shape of a data set, None where nothing says it; and what is to be done where its images are not at hand."""

    shape: Shape | None
    lacking: str = ""


def data_shape(recipe: Recipe) -> Known:
    """What is known of a recipe's data; nothing is fetched for that.

    A folder of images is listed. Fashion-MNIST's shape is known without it, and so is that of ImageNet-1k, which a
    folder called imagenet that is not there is taken for: 1,281,167 training and 50,000 validation images of 1,000
    classes (Russakovsky et al. 2015, arXiv 1409.0575); the latter are the test split, and as many of the former are
    held out (see `lkd.data.sources.from_files`).

    Example:
        >>> from lkd import Recipe
        >>> from lkd.planning.data_shape import data_shape
        >>> data_shape(Recipe(data="digits", student="mini_vit")).shape.train
        1297
    """
    return _known(recipe.data, View(**recipe.view))


def forget() -> None:
    """Look for data anew: files may have come or gone since the last plan."""
    _known.cache_clear()


@cache
def _known(data: str, view: View) -> Known:
    if data == "fashion_mnist":
        shape = Shape(60_000 - VALIDATION, VALIDATION, 10_000, len(CLASSES), 1, (_FASHION_SIDE, _FASHION_SIDE))
        return Known(shape, "" if _fashion_mnist_is_here() else _fetched("Fashion-MNIST", "31 MB"))
    if data in SOURCES:
        return Known(_shape(load(data)))
    if data.startswith(IN_MEMORY):
        return Known(None, f"{data} exists only in the memory of the program that made the recipe: plan there")
    kind, _, place = data.partition(":")
    if kind == "hfds" and importlib.util.find_spec("datasets") and not Path(place).is_dir():
        return _assumed(data, view, f"{data} was not looked for, as that may fetch it")
    try:
        return Known(_shape(load(data, **vars(view))))
    except (ImportError, OSError, ValueError) as error:
        return _assumed(data, view, str(error))


def _shape(data: DataSet) -> Shape:
    counts = len(data.train), len(data.val), len(data.test)
    return Shape(*counts, len(data.classes), data.channels, data.size)


def _assumed(data: str, view: View, lacking: str) -> Known:
    """ImageNet-1k's shape for data of that name that is not at hand; none for others."""
    if Path(data.partition(":")[2]).name.lower() not in ("imagenet", "imagenet-1k"):
        return Known(None, lacking)
    side = view.image_size or SIZE
    shape = Shape(1_281_167 - 50_000, 50_000, 50_000, 1000, 3, (side, side))
    return Known(shape, f"{lacking}; until then its size is taken for ImageNet-1k's")


def _fashion_mnist_is_here() -> bool:
    places = home() / "data" / "fashion-mnist", DEBIAN_FOLDER
    return any(all((place / name).is_file() for name in SHA256) for place in places)


def _fetched(what: str, size: str) -> str:
    return f"{what} is not on this machine: it is fetched when it is first needed ({size})"


def lacking_weights(name: str) -> str:
    """What is to be done where a pretrained teacher's weights are not in this machine's caches; "" where they are.

    Args:
        name: timm's.

    Example:
        >>> from lkd.planning.data_shape import lacking_weights
        >>> lacking_weights("mini_slak")
        "teacher 'mini_slak' has no pretrained weights: give the recipe or run of a trained one"
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        return f"teacher {name!r} has no pretrained weights: give the recipe or run of a trained one"
    source = str(config.hf_hub_id or config.url or config.file)
    if config.hf_hub_id and in_hub_cache(config):
        return ""
    url = config.url if isinstance(config.url, str) else ""
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if (url and cached.is_file()) or (config.file and Path(config.file).is_file()):
        return ""
    return (
        f"the weights of teacher {name!r} are not in the cache: they are fetched from {source} when they are first "
        f'needed; without a network there, run this elsewhere and copy the cache: python -c "import timm; '
        f"timm.create_model('{name}', pretrained=True)\""
    )
