"""A user's own data sets, read into memory."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from lkd.data.images import Images, Split, channel_statistics, hold_out


class MapDataset(Protocol):
    """A map-style data set: `len(data)` samples, of which `data[index]` is one (image, label) pair."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def from_datasets(
    train: MapDataset,
    test: MapDataset,
    *,
    val: MapDataset | None = None,
    classes: Sequence[str] | None = None,
    val_share: float = 0.1,
    seed: int = 0,
) -> Images:
    """Your own data sets as `Images`, read into memory.

    The samples are read here and never again: leave random augmentation to the recipe.

    Args:
        train, test: map-style data sets of (image, label). An image is a uint8 or float tensor of shape (C, H, W), a
            uint8 array of shape (H, W) or (H, W, C), or a PIL image of mode L or RGB; a label is an int from 0.
            All images have one shape and one dtype.
        val: the validation set; without it, `val_share` of train is held out, stratified by class.
        classes: name of each class; by default "0" to the highest label.
        val_share: share of train to hold out, between 0 and 1; not used when `val` is given.
        seed: which images are held out.

    Returns:
        Images called "custom". uint8 images come with the mean and std of the training images; float images are used
        as they are (mean 0, std 1).

    Raises:
        TypeError: a data set without length or indices, a sample that is no (image, label) pair, an image or a label
            of another type.
        ValueError: an empty data set, images that differ in shape, a label without a class.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from lkd.data import from_datasets
        >>> pairs = TensorDataset(torch.rand(20, 3, 32, 32), torch.arange(20) % 2)
        >>> data = from_datasets(pairs, pairs, classes=("cat", "dog"))
        >>> len(data.train), len(data.val), len(data.test)
        (18, 2, 20)
    """
    kept, tested = _read("train", train), _read("test", test)
    if val is None:
        kept, held = hold_out(kept, _val_count(len(kept), val_share), seed)
    else:
        held = _read("val", val)
    if classes is None:
        classes = [str(label) for label in range(max(int(part.labels.max()) for part in (kept, held, tested)) + 1)]
    if kept.images.dtype == torch.uint8:
        mean, std = channel_statistics(kept.images)
    else:
        mean, std = (0.0,) * kept.images.shape[1], (1.0,) * kept.images.shape[1]
    return Images("custom", tuple(classes), kept, held, tested, mean, std)


def _val_count(available: int, share: float) -> int:
    if isinstance(share, bool) or not isinstance(share, int | float):
        raise TypeError(f"val_share must be a number, got {share!r}")
    if not 0 < share < 1:
        raise ValueError(f"val_share is {share}: give a share between 0 and 1, or a val data set")
    count = round(available * share)
    if not 0 < count < available:
        raise ValueError(f"val_share {share} of {available} training images holds out {count}: give a val data set")
    return count


def _read(name: str, dataset: MapDataset) -> Split:
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise TypeError(
            f"{name} is a {type(dataset).__name__} without __len__ and __getitem__: give a map-style data set "
            "(a list of its samples is one)"
        )
    if len(dataset) == 0:
        raise ValueError(f"{name} is empty: give at least one (image, label) pair")
    first, _ = _sample(f"{name}[0]", dataset[0])
    images = torch.empty((len(dataset), *first.shape), dtype=first.dtype)
    labels = torch.empty(len(dataset), dtype=torch.int64)
    for index in tqdm(range(len(dataset)), desc=f"reading {name}", delay=2, leave=False, disable=None):
        where = f"{name}[{index}]"
        image, labels[index] = _sample(where, dataset[index])
        if image.shape != first.shape or image.dtype != first.dtype:
            raise ValueError(
                f"the image of {where} is {tuple(image.shape)} {image.dtype}, that of {name}[0] {tuple(first.shape)} "
                f"{first.dtype}: bring all images to one shape and dtype, for example with torchvision's Resize"
            )
        images[index] = image
    return Split(images, labels)


def _sample(where: str, sample: Any) -> tuple[Tensor, int]:
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        size = f" of {len(sample)}" if isinstance(sample, tuple | list) else ""
        raise TypeError(f"{where} is a {type(sample).__name__}{size}: each sample must be an (image, label) pair")
    image, label = sample
    return _image(where, image), _label(where, label)


def _image(where: str, image: Any) -> Tensor:
    if isinstance(image, Tensor):
        return _from_tensor(where, image)
    if isinstance(image, Image.Image):
        if image.mode not in ("L", "RGB"):
            raise TypeError(f"the image of {where} has PIL mode {image.mode!r}: use image.convert('RGB') or ('L')")
        return _from_array(where, np.asarray(image))
    if isinstance(image, np.ndarray):
        return _from_array(where, image)
    raise TypeError(f"the image of {where} is a {type(image).__name__}: give a tensor, an array or a PIL image")


def _from_tensor(where: str, image: Tensor) -> Tensor:
    if image.ndim != 3:
        raise ValueError(f"the image of {where} is a tensor of shape {tuple(image.shape)}: give (C, H, W)")
    if image.is_floating_point():
        return image.detach().float()
    if image.dtype != torch.uint8:
        raise TypeError(f"the image of {where} is a tensor of {image.dtype}: give torch.uint8 or a float dtype")
    return image


def _from_array(where: str, image: np.ndarray) -> Tensor:
    if image.dtype != np.uint8:
        raise TypeError(f"the image of {where} is an array of {image.dtype}: give uint8, or a tensor (C, H, W)")
    if image.ndim not in (2, 3):
        raise ValueError(f"the image of {where} is an array of shape {image.shape}: give (H, W) or (H, W, C)")
    pixels = torch.from_numpy(np.array(image, order="C"))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _label(where: str, label: Any) -> int:
    if isinstance(label, Tensor | np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, bool | np.bool_) or not isinstance(label, int | np.integer):
        raise TypeError(f"the label of {where} is {label!r} ({type(label).__name__}): give the class's number, an int")
    if label < 0:
        raise ValueError(f"the label of {where} is {int(label)}: number the classes from 0")
    return int(label)
