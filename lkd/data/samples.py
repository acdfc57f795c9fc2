"""Validate the samples of a custom data set, and convert each to a tensor and a class number."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from lkd.data.decoding import WARNED, converted
from lkd.data.sanity_checks import AXES, swapped_axes, warn
from lkd.util.checks import some

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
"""PIL modes of grey images."""

KEYS = {
    "image": ("image", "img", "images", "pixel_values"),
    "label": ("label", "labels", "target", "class", "fine_label"),
}
"""Names of the image and the label in a sample; only the first is used without being given."""

KINDS = {"image": "Image", "label": "ClassLabel"}
"""Types of the columns of a Hugging Face data set."""


class Samples:
    """The samples of a map-style data set, each converted to an image `(C, H, W)` and a class number.

    Args:
        name: name of the data set in messages, such as "train".
        dataset: see `lkd.data.from_datasets`.
        image_key, label_key: keys of image and label, for samples that are dicts.
        mode: the mode to which PIL images are converted, "RGB" or "L"; by default "L" if the first image is grey, and
            else "RGB".

    Raises:
        TypeError: a data set without length or indices.
        ValueError: an empty data set.

    Example:
        >>> import numpy as np
        >>> from lkd.data.samples import Samples
        >>> image, label = Samples("train", [{"image": np.zeros((8, 8, 3), np.uint8), "label": 2}])[0]
        >>> image.shape, label
        (torch.Size([3, 8, 8]), 2)
    """

    def __init__(
        self,
        name: str,
        dataset: Any,
        image_key: str | None = None,
        label_key: str | None = None,
        mode: str | None = None,
    ):
        _check_map_style(name, dataset)
        self.name, self.dataset, self.mode = name, dataset, mode
        self.given_mode = mode
        self.given = {"image": image_key, "label": label_key}
        self._keys: dict[str, str] = {}
        self._grey_first = ""
        self._warned: set[str] = set()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The image, uint8 or float32, and its class number.

        Raises:
            KeyError: a dict without the keys of image and label.
            OSError: an unreadable file.
            TypeError: a sample, an image or a label of another type.
            ValueError: an unreadable sample, an image of another shape, a value that is not finite, a negative label.
        """
        where = self.where(index)
        image, label = self._pair(where, self._read(index))
        return self._image(where, image), _label(where, label)

    def where(self, index: int) -> str:
        """Name of a sample in messages."""
        return f"{self.name}[{index}]"

    @property
    def classes(self) -> list[str]:
        """Names of the classes, from a Hugging Face class label or the attribute `classes`; empty without names."""
        inner, label = _innermost(self.dataset), self._keys.get("label", "")
        names = getattr(_features(inner).get(label), "names", None)
        if names is None and getattr(inner, "target_transform", None) is None:
            names = getattr(inner, "classes", None)
        if not isinstance(names, list | tuple):
            return []
        return [", ".join(map(str, name)) if isinstance(name, list | tuple) else str(name) for name in names]

    def follow(self, other: "Samples") -> None:
        """Convert PIL images to the mode that the other samples have."""
        self.mode, self._grey_first = other.mode, other._grey_first

    def _read(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except Exception as error:
            length = f"correct __len__, which is {len(self)}, or"
            remedy = length if isinstance(error, IndexError) else "repair it or"
            raise (OSError if isinstance(error, OSError) else ValueError)(
                f"{self.where(index)} cannot be read ({type(error).__name__}: {error}): {remedy} leave it out"
            ) from error

    def _pair(self, where: str, sample: Any) -> tuple[Any, Any]:
        """Image and label of a sample."""
        if isinstance(sample, Mapping):
            image, label = (sample[self._key(where, role, sample)] for role in KEYS)
            return image, label
        for role, key in self.given.items():
            if key is not None:
                raise TypeError(f"{role}_key is {key!r}, but {where} is a {type(sample).__name__}: leave it out")
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            size = f" of {len(sample)}" if isinstance(sample, tuple | list) else ""
            raise TypeError(
                f"{where} is a {type(sample).__name__}{size}: each sample must be an (image, label) pair, or a dict "
                f"with both{_pair_hint(sample)}"
            )
        image, label = sample
        if isinstance(image, int | np.integer) and isinstance(label, Tensor | np.ndarray | Image.Image):
            raise TypeError(f"{where} is a (label, image) pair: swap them, each sample must be an (image, label) pair")
        return image, label

    def _key(self, where: str, role: str, sample: Mapping[str, Any]) -> str:
        """The key of the image or the label, the same for all samples."""
        if role not in self._keys:
            columns = _features(_innermost(self.dataset))
            of_kind = [name for name, each in columns.items() if type(each).__name__ == KINDS[role] and name in sample]
            usual = of_kind[0] if role not in sample and len(of_kind) == 1 else role
            self._keys[role] = self.given[role] or usual
        if (key := self._keys[role]) in sample:
            return key
        likely = min(sample, key=lambda name: _rank(role, name), default=role)
        raise KeyError(
            f"{where} has the keys {some(map(str, sample)) or '(none)'}, not {key!r}: name the one of the {role}, for "
            f"example {role}_key={likely!r}"
        )

    def _image(self, where: str, image: Any) -> Tensor:
        if isinstance(image, Image.Image):
            return _from_array(where, np.asarray(self._in_mode(where, image)))
        if self.given_mode is not None:
            raise TypeError(
                f"mode is {self.given_mode!r}, but the image of {where} is a {type(image).__name__}, not a PIL image: "
                "leave mode out, and convert the image in the data set"
            )
        if isinstance(image, Tensor):
            return _from_tensor(where, image.as_subclass(Tensor))
        if isinstance(image, np.ndarray):
            return _from_array(where, image)
        raise TypeError(
            f"the image of {where} is a {type(image).__name__}: give a tensor, an array or a PIL image"
            f"{_image_hint(image)}"
        )

    def _in_mode(self, where: str, image: Image.Image) -> Image.Image:
        """A PIL image in the mode of all; warns once of each property that loses pixels."""
        if self.mode is None:
            self.mode = "L" if image.mode in GREY_MODES else "RGB"
            self._grey_first = where if self.mode == "L" else ""
        if self._grey_first and image.mode not in GREY_MODES:
            raise ValueError(
                f"the image of {where} has PIL mode {image.mode!r}, but that of {self._grey_first} is grey: pass "
                "mode='RGB' or mode='L' to convert all images to one mode"
            )
        try:
            pixels, care = converted(image, self.mode)
        except ValueError as error:
            raise ValueError(f"the image of {where} has PIL mode {image.mode!r}, and {error}") from error
        except OSError as error:
            raise OSError(f"the image of {where} cannot be decoded ({error}): repair it or leave it out") from error
        for kind in WARNED.keys() & set(care) - self._warned:
            self._warned.add(kind)
            warn(f"the image of {where} has {WARNED[kind]}")
        return pixels


def _check_map_style(name: str, dataset: Any) -> None:
    indexed = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    by_name = isinstance(dataset, Mapping) and 0 not in dataset
    if not indexed or by_name or isinstance(dataset, IterableDataset | str):
        raise TypeError(
            f"{name} is a {type(dataset).__name__} without __len__ and __getitem__ of indices: give a map-style data "
            f"set ({_map_style_hint(dataset)})"
        )
    if len(dataset) == 0:
        raise ValueError(f"{name} is empty: give at least one (image, label) pair")


def _map_style_hint(dataset: Any) -> str:
    if isinstance(dataset, DataLoader):
        return "loader.dataset is one"
    if isinstance(dataset, Mapping):
        return f"this one contains {some(map(str, dataset)) or 'nothing'}"
    if type(dataset).__module__.startswith("datasets."):
        return "load_dataset without streaming=True returns one"
    return "a list of its samples is one"


def _innermost(dataset: Any) -> Any:
    """The data set within `torch.utils.data.Subset`s."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _features(dataset: Any) -> Mapping[str, Any]:
    """The column types of a Hugging Face data set; empty for others."""
    features = getattr(dataset, "features", None)
    return features if type(dataset).__module__.startswith("datasets.") and features else {}


def _rank(role: str, name: str) -> int:
    """Place of a key among the probable keys of the image or the label."""
    if name in KEYS[role]:
        return KEYS[role].index(name)
    return 1000 if any(name in names for names in KEYS.values()) else 100


def _pair_hint(sample: Any) -> str:
    if isinstance(sample, Tensor | np.ndarray):
        return "; for tensors X and y, use torch.utils.data.TensorDataset(X, y)"
    return ""


def _image_hint(image: Any) -> str:
    if isinstance(image, str | Path):
        return ", for example PIL.Image.open(path)"
    if isinstance(image, Mapping) and image.keys() & {"bytes", "path"}:
        return ", for example with cast_column(key, datasets.Image())"
    if isinstance(image, list):
        return ", for a Hugging Face data set with with_format('torch')"
    return ""


def _from_tensor(where: str, image: Tensor) -> Tensor:
    if image.ndim != 3:
        remedy = " (image[None] for a grey image)" if image.ndim == 2 else ""
        raise ValueError(f"the image of {where} is a tensor of shape {tuple(image.shape)}: give (C, H, W){remedy}")
    if image.is_floating_point():
        pixels = _in_order(where, image.detach().float())
        if not pixels.isfinite().all():
            raise ValueError(
                f"the image of {where} has values that are NaN or infinite (in float32): repair or remove it"
            )
        return pixels
    if image.dtype != torch.uint8:
        raise TypeError(f"the image of {where} is a tensor of {image.dtype}: give torch.uint8 or a float dtype")
    return _in_order(where, image)


def _in_order(where: str, image: Tensor) -> Tensor:
    if swapped_axes(image.shape):
        raise ValueError(f"the image of {where}, read as (C, H, W), has shape {tuple(image.shape)}: {AXES}")
    return image


def _from_array(where: str, image: np.ndarray) -> Tensor:
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise TypeError(f"the image of {where} is an array of {image.dtype}: give uint8 or a float dtype")
    if image.ndim not in (2, 3):
        raise ValueError(f"the image of {where} is an array of shape {image.shape}: give (H, W) or (H, W, C)")
    if image.ndim == 3 and image.shape[0] <= 4 < min(image.shape[1:]):
        raise ValueError(
            f"the image of {where} is an array of shape {image.shape}, read as (H, W, C), which looks like (C, H, W): "
            "give image.transpose(1, 2, 0), or the tensor torch.from_numpy(image)"
        )
    pixels = torch.from_numpy(np.array(image, order="C"))
    return _from_tensor(where, pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1))


def _label(where: str, label: Any) -> int:
    if isinstance(label, Tensor | np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, Tensor | np.ndarray):
        several = "label.argmax() if it is one-hot; an image with several classes is not supported"
        remedy = "label.item()" if math.prod(label.shape) == 1 else several
        raise TypeError(
            f"the label of {where} is a {type(label).__name__} of shape {tuple(label.shape)}: give the class's number, "
            f"an int ({remedy})"
        )
    if isinstance(label, bool | np.bool_) or not isinstance(label, int | np.integer):
        raise TypeError(
            f"the label of {where} is {label!r} ({type(label).__name__}): give the class's number, an int"
            f"{_int_hint(label)}"
        )
    if label < 0:
        raise ValueError(
            f"the label of {where} is {int(label)}: number the classes from 0, and leave out samples without a class"
        )
    return int(label)


def _int_hint(label: Any) -> str:
    if isinstance(label, str):
        return f", for example classes.index({label!r}), for a Hugging Face data set with class_encode_column"
    if isinstance(label, list | tuple):
        return " (an image with several classes is not supported)"
    if label is None:
        return ", and leave out samples without a class"
    if isinstance(label, bool | np.bool_) or (isinstance(label, float) and label.is_integer()):
        return f", here {int(label)}, with int(label)"
    return ""
