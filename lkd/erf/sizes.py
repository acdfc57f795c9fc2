"""Adaptation of models to other image sizes."""

import inspect
from typing import Any, TypeVar

import torch
from torch import nn

from lkd.models.copying import copy_model
from lkd.models.inference import in_eval_mode
from lkd.util.checks import check_whole

Model = TypeVar("Model", bound=nn.Module)


def at_size(model: Model, size: int | tuple[int, int]) -> Model:
    """A copy of a model that accepts images of another size.

    timm models with a fixed size are adapted by their `set_input_size`, which resamples position embeddings. Swin's
    windows keep their trained size; with timm's default they, and the receptive field, would grow with the image, as
    MaxViT's do. Models for any size, such as ConvNets, are copied unchanged. The copy is tested on a blank image.

    Args:
        model: maps images to logits; its first convolution determines the number of channels.
        size: side of the images, or their height and width.

    Raises:
        TypeError: not a module, or one without a convolution; a size that is not an integer.
        ValueError: a size below 1, or one that the model cannot support. `cswin_tiny` needs multiples of 112,
            `mini_cswin` of 8; ViT and Swin accept any size, but ignore incomplete patches at the right and bottom.

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
            f"{type(model).__name__} has no convolution, so its number of input channels is unknown: pass another model"
        )
    resized: Any = copy_model(model, "model")
    image = first.weight.new_zeros(1, first.in_channels, height, width)
    with in_eval_mode(resized), torch.no_grad():
        try:
            _set_size(resized, (height, width))
            resized(image)
        except (ValueError, AssertionError, RuntimeError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(
                f"size is {size!r}, which {type(model).__name__} does not support ({error}): "
                "choose another, or create the model for this size"
            ) from error
    return resized


def _set_size(model: Any, size: tuple[int, int]) -> None:
    set_input_size = getattr(model, "set_input_size", None)
    if set_input_size is None:
        return
    windows = _windows(model) if "window_size" in inspect.signature(set_input_size).parameters else []
    set_input_size(img_size=size, **({"window_size": windows} if windows else {}))


def _windows(model: Any) -> list[tuple[int, int]]:
    """Attention windows of the stages of a Swin (any of its versions); empty for other models."""
    stages = model.layers if hasattr(model, "layers") else getattr(model, "stages", [])
    blocks = [stage.blocks[0] for stage in stages if hasattr(stage, "blocks")]
    return [block.window_size for block in blocks if hasattr(block, "window_size")]
