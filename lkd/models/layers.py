"""Outputs of a network's layers by name, and their form as feature maps `(B, C, h, w)`."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from lkd.models.timm_attributes import pretrained_cfg
from lkd.util.checks import unknown

_CHANNELS_FIRST = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d)
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm)


def check_layers(model: nn.Module, names: Sequence[str], owner: str) -> None:
    """Refuse names of layers that a model does not have.

    Args:
        model: any module.
        names: names as in `model.named_modules()`, such as "layer3.1".
        owner: the model's name in messages.

    Raises:
        KeyError: an unknown name, with the nearest known one.

    Example:
        >>> from torch import nn
        >>> from lkd.models.layers import check_layers
        >>> check_layers(nn.Sequential(nn.Flatten()), ["1"], "student")
        Traceback (most recent call last):
        KeyError: "unknown layer of student '1'. There are: 0"
    """
    known = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    for name in names:
        if name not in known:
            raise KeyError(unknown(f"layer of {owner}", name, known))


def with_layers(model: nn.Module, images: Tensor, names: Sequence[str]) -> tuple[Any, tuple[Tensor, ...]]:
    """A model's output, and the outputs of some of its layers as maps `(B, C, h, w)`.

    Args:
        model: any module that takes images.
        images: `(B, C, H, W)`.
        names: names of layers, as in `model.named_modules()`.

    Raises:
        TypeError, ValueError: a layer that does not run exactly once, or whose output is not a map; see `as_map`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lkd.models.layers import with_layers
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 2, stride=2), nn.Flatten(), nn.LazyLinear(10))
        >>> logits, maps = with_layers(model, torch.zeros(2, 3, 8, 8), ["0"])
        >>> logits.shape, maps[0].shape
        (torch.Size([2, 10]), torch.Size([2, 8, 4, 4]))
    """
    with recorded(model, names) as runs:
        output = model(images)
    for name in names:
        if len(runs[name]) != 1:
            times = f"runs layer {name!r} {len(runs[name])} times" if runs[name] else f"does not run layer {name!r}"
            raise ValueError(f"{type(model).__name__}.forward {times}: name a layer that runs once")
    return output, tuple(as_map(runs[name][0], model, name, images) for name in names)


@contextmanager
def recorded(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Context manager: the outputs of a model's layers, by name, in the order of their runs.

    Tensors are copied, since later layers may change them in place.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lkd.models.layers import recorded
        >>> model = nn.Sequential(nn.Flatten(), nn.ReLU())
        >>> with recorded(model, ["0"]) as runs:
        ...     _ = model(torch.ones(1, 1, 2))
        >>> runs
        {'0': [tensor([[1., 1.]])]}
    """
    runs: dict[str, list[Any]] = {name: [] for name in names}

    def noted(name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            runs[name].append(output.clone() if isinstance(output, Tensor) else output)

        return note

    handles = [model.get_submodule(name).register_forward_hook(noted(name)) for name in runs]
    try:
        yield runs
    finally:
        for handle in handles:
            handle.remove()


def as_map(features: Any, model: nn.Module, layer: str, images: Tensor) -> Tensor:
    """Convert features to a map `(B, C, h, w)`.

    Of features with four dimensions, channels are the first or the last of three: rows and columns have the images'
    proportions. Tokens `(B, N, C)` are arranged row by row, without the model's `num_prefix_tokens`; in a model without
    this attribute, without a class token if there is one.

    Args:
        features: output of the layer.
        model: the layer's model.
        layer: its name; "" for the model itself.
        images: the images that the features were computed from.

    Raises:
        TypeError: not a tensor, or a `num_prefix_tokens` that is not a number.
        ValueError: another shape, or one with several meanings.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lkd.models.layers import as_map
        >>> tokens, images = torch.zeros(2, 17, 64), torch.zeros(2, 3, 32, 32)
        >>> as_map(tokens, nn.Identity(), "", images).shape
        torch.Size([2, 64, 4, 4])
    """
    module = model.get_submodule(layer)
    named = f"the features of {type(module).__name__}" + (f" {layer!r}" if layer else "")
    if not isinstance(features, Tensor):
        raise TypeError(f"{named} are a {type(features).__name__}, not a tensor: name another layer")
    if features.ndim not in (3, 4) or len(features) != len(images):
        raise ValueError(
            f"{named} have shape {tuple(features.shape)} for {len(images)} images: name a layer with maps (B, C, h, w) "
            "or (B, h, w, C), or tokens (B, N, C)"
        )
    if features.ndim == 3:
        return _arranged(features, model, images)
    last = _channels_last(features, model, module, images)
    if last is None:
        raise ValueError(
            f"{named} have shape {tuple(features.shape)}, whose channels may be the first or the last of the three: "
            "name a layer inside it, such as its last convolution, or one with another number of channels"
        )
    return features.movedim(-1, 1) if last else features


# Four dimensions ----------------------------------------------------------------------------------------------------


def _channels_last(features: Tensor, model: nn.Module, module: nn.Module, images: Tensor) -> bool | None:
    """Whether the channels are the last dimension; None if neither shape nor layer tells."""
    if isinstance(module, nn.Conv2d):
        return False
    if isinstance(module, nn.Linear):
        return True
    first, last = (_distortion(features.shape[start : start + 2], images) for start in (2, 1))
    if abs(first - last) > 1e-9:
        return last < first
    if module is model or pretrained_cfg(model):
        return bool(getattr(model, "output_fmt", "NCHW") == "NHWC")
    kinds = {type(part) for part in module.modules()}
    found = [order for order in (_CHANNELS_FIRST, _CHANNELS_LAST) if kinds & {*order}]
    return found[0] is _CHANNELS_LAST if len(found) == 1 else None


def _distortion(size: Sequence[int], images: Tensor) -> float:
    """How far the proportions of a map are from the images'."""
    height, width = images.shape[2:]
    return abs(math.log(size[0] * width / (size[1] * height)))


# Tokens -------------------------------------------------------------------------------------------------------------


def _arranged(tokens: Tensor, model: nn.Module, images: Tensor) -> Tensor:
    """Tokens in rows and columns."""
    count = tokens.shape[1]
    class_token = not _grids(count, images) and bool(_grids(count - 1, images))
    prefix = getattr(model, "num_prefix_tokens", int(class_token))
    if not isinstance(prefix, int) or isinstance(prefix, bool):
        raise TypeError(
            f"the num_prefix_tokens of {type(model).__name__} must be the number of its class and register tokens, "
            f"as in timm, got a {type(prefix).__name__}: rename it, or name another layer"
        )
    grids = _grids(count - prefix, images)
    if len(grids) != 1:
        height, width = images.shape[2:]
        raise ValueError(
            f"{count - prefix} tokens, after {prefix} prefix tokens, do not form a grid on images of {height}x{width}: "
            "set the model's num_prefix_tokens to the number of its class and register tokens, or name another layer"
        )
    return tokens[:, prefix:].mT.unflatten(2, grids[0])


def _grids(tokens: int, images: Tensor) -> list[tuple[int, int]]:
    """Rows and columns of tokens, each of a square patch of the images; usually one pair."""
    pairs = [(rows, tokens // rows) for rows in range(1, tokens + 1) if tokens % rows == 0]
    return [pair for pair in pairs if _fills(*pair, *images.shape[2:])]


def _fills(rows: int, columns: int, height: int, width: int) -> bool:
    """Whether an image has this many rows and columns of square patches, full ones only or partial ones included."""
    smaller, larger = sorted([Fraction(height, rows), Fraction(width, columns)])
    whole = height // smaller, width // smaller
    begun = math.ceil(height / larger), math.ceil(width / larger)
    return (rows, columns) in (whole, begun)
