"""Validate a sample of a custom data set and convert it to a tensor and a class number."""

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lkd.data.sanity_checks import AXES, swapped_axes

DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""PIL modes with more than 8 bits, which `convert` clips at 255."""


def image_and_label(where: str, sample: Any) -> tuple[Tensor, int]:
    """Convert a sample to an image `(C, H, W)`, uint8 or float32, and a class number.

    Args:
        where: the sample's name in messages, such as "train[3]".
        sample: an (image, label) pair; see `lkd.data.from_datasets`.

    Raises:
        TypeError: not a pair, or an image or label of another type.
        ValueError: an image of another shape, a value that is not finite, a negative label.

    Example:
        >>> import numpy as np
        >>> from lkd.data.samples import image_and_label
        >>> image, label = image_and_label("train[0]", (np.zeros((8, 8, 3), np.uint8), 2))
        >>> image.shape, label
        (torch.Size([3, 8, 8]), 2)
    """
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        size = f" of {len(sample)}" if isinstance(sample, tuple | list) else ""
        raise TypeError(
            f"{where} is a {type(sample).__name__}{size}: each sample must be an (image, label) pair{_hint(sample)}"
        )
    image, label = sample
    if isinstance(image, int | np.integer) and isinstance(label, Tensor | np.ndarray | Image.Image):
        raise TypeError(f"{where} is a (label, image) pair: swap them, each sample must be an (image, label) pair")
    return _image(where, image), _label(where, label)


def _hint(sample: Any) -> str:
    if isinstance(sample, dict):
        return f"; this one has the keys {', '.join(map(repr, sample))}: wrap the data set to return pairs"
    if isinstance(sample, Tensor | np.ndarray):
        return "; for tensors X and y, use torch.utils.data.TensorDataset(X, y)"
    return ""


def _image(where: str, image: Any) -> Tensor:
    if isinstance(image, Tensor):
        return _from_tensor(where, image)
    if isinstance(image, Image.Image):
        return _from_array(where, np.asarray(_eight_bits(where, image)))
    if isinstance(image, np.ndarray):
        return _from_array(where, image)
    raise TypeError(f"the image of {where} is a {type(image).__name__}: give a tensor, an array or a PIL image")


def _eight_bits(where: str, image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB"):
        return image
    if image.mode in DEEP_MODES:
        raise TypeError(
            f"the image of {where} has PIL mode {image.mode!r}, more than 8 bits: scale its values to [0, 1] and give "
            "a float tensor (image.convert clips them at 255)"
        )
    raise TypeError(f"the image of {where} has PIL mode {image.mode!r}: use image.convert('RGB') or ('L')")


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
    if image.dtype != np.uint8:
        raise TypeError(f"the image of {where} is an array of {image.dtype}: give uint8, or a tensor (C, H, W)")
    if image.ndim not in (2, 3):
        raise ValueError(f"the image of {where} is an array of shape {image.shape}: give (H, W) or (H, W, C)")
    if image.ndim == 3 and image.shape[0] <= 4 < min(image.shape[1:]):
        raise ValueError(
            f"the image of {where} is an array of shape {image.shape}, read as (H, W, C), which looks like (C, H, W): "
            "give image.transpose(1, 2, 0), or the tensor torch.from_numpy(image)"
        )
    pixels = torch.from_numpy(np.array(image, order="C"))
    return pixels[None] if pixels.ndim == 2 else _in_order(where, pixels.permute(2, 0, 1))


def _label(where: str, label: Any) -> int:
    if isinstance(label, Tensor | np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, Tensor | np.ndarray):
        remedy = "label.item()" if math.prod(label.shape) == 1 else "label.argmax() if it is one-hot"
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
        return f", for example classes.index({label!r})"
    if isinstance(label, bool | np.bool_) or (isinstance(label, float) and label.is_integer()):
        return f", here {int(label)}, with int(label)"
    return ""
