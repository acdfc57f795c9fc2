"""Models for images of another size than they were made for."""

import inspect
from typing import Any, TypeVar

import torch
from torch import nn

from lkd.erf.contribution import frozen
from lkd.models.copying import twin
from lkd.util.checks import check_whole

Model = TypeVar("Model", bound=nn.Module)


def at_size(model: Model, size: int | tuple[int, int]) -> Model:
    """A copy of a model that takes images of another size.

    Models of timm that are made for one size are brought to the other by their `set_input_size`: position embeddings
    are resampled. Swin's windows keep the size that they were trained with, where timm alone would let them, and with
    them the receptive field, grow along with the image (those of MaxViT do grow). What takes any size, such as
    ConvNets, is copied as it is. Whether the copy takes images of that size is tried on an empty one.

    Args:
        model: images to logits, with a convolution first.
        size: side of the images, or their height and width.

    Raises:
        TypeError: not a module, or one without a convolution; a size that is no whole number.
        ValueError: a size below 1, or one that the model cannot be brought to. `cswin_tiny` takes multiples of 112,
            `mini_cswin` of 8; ViT and Swin any, but leave out what fills no whole patch at the right and below.

    Example:
        >>> import timm, torch, lkd
        >>> from lkd.erf import at_size
        >>> at_size(timm.create_model("mini_swin"), 128).forward_features(torch.zeros(1, 3, 128, 128)).shape
        torch.Size([1, 16, 16, 80])
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got a {type(model).__name__}")
    height, width = size if isinstance(size, tuple) and len(size) == 2 else (size, size)
    for side in (height, width):
        check_whole("size", side, 1)
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise TypeError(
            f"a {type(model).__name__} has no convolution, so that its channels are not known: give another"
        )
    resized: Any = twin(model, "model")
    image = first.weight.new_zeros(1, first.in_channels, height, width)
    with frozen(resized), torch.no_grad():
        try:
            _set_size(resized, (height, width))
            resized(image)
        except (ValueError, AssertionError, RuntimeError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(
                f"size is {size!r}, which a {type(model).__name__} cannot be brought to ({error}): "
                "choose another, or make the model anew for it"
            ) from error
    return resized


def _set_size(model: Any, size: tuple[int, int]) -> None:
    set_input_size = getattr(model, "set_input_size", None)
    if set_input_size is None:
        return
    windows = _windows(model) if "window_size" in inspect.signature(set_input_size).parameters else []
    set_input_size(img_size=size, **({"window_size": windows} if windows else {}))


def _windows(model: Any) -> list[tuple[int, int]]:
    """The attention windows of each stage of Swin, in its three versions; none of other models."""
    stages = model.layers if hasattr(model, "layers") else getattr(model, "stages", [])
    blocks = [stage.blocks[0] for stage in stages if hasattr(stage, "blocks")]
    return [block.window_size for block in blocks if hasattr(block, "window_size")]
