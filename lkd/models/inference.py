"""Inference helpers: eval mode, device, and checks that a change of a model keeps its outputs."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lkd.models.timm_attributes import pretrained_cfg

Forward = Callable[[nn.Module], Any]
"""Runs a model on fixed images."""


def has_hooks(module: nn.Module) -> bool:
    """Whether a module has forward or backward hooks of its own, which are lost where it is replaced.

    Example:
        >>> from torch import nn
        >>> from lkd.models.inference import has_hooks
        >>> layer = nn.Linear(2, 2)
        >>> handle = layer.register_forward_hook(print)
        >>> has_hooks(layer)
        True
    """
    kinds = ("forward", "forward_pre", "backward", "backward_pre")
    return any(getattr(module, f"_{kind}_hooks") for kind in kinds)


def set_eval_mode(model: nn.Module) -> nn.Module:
    """Put a model in eval mode and return it, also if its own `eval` returns nothing.

    Example:
        >>> from torch import nn
        >>> from lkd.models.inference import set_eval_mode
        >>> set_eval_mode(nn.Dropout()).training
        False
    """
    model.eval()
    return model


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Context manager: a model in eval mode; restores the mode of each module on exit.

    Example:
        >>> from torch import nn
        >>> from lkd.models.inference import in_eval_mode
        >>> model = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3).eval())
        >>> with in_eval_mode(model):
        ...     pass
        >>> [module.training for module in model]
        [True, False]
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's weights; the CPU if it has none.

    Example:
        >>> from torch import nn
        >>> from lkd.models.inference import device_of
        >>> device_of(nn.Flatten())
        device(type='cpu')
    """
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@torch.no_grad()
def output_tensors(model: nn.Module, forward: Forward) -> list[Tensor]:
    """All output tensors of a model, computed on a copy with a fixed seed.

    Args:
        model: made by `lkd.models.copying.copy_model`, or otherwise safe to deepcopy.
        forward: runs a model on fixed images.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lkd.models.inference import output_tensors
        >>> output_tensors(nn.Flatten(), lambda model: model(torch.zeros(2, 1, 3)))[0].shape
        torch.Size([2, 3])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return list(_tensors(forward(copy.deepcopy(model))))


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, Mapping | list | tuple):
        for each in given.values() if isinstance(given, Mapping) else given:
            yield from _tensors(each)


def check_equal_outputs(given: list[Tensor], expected: list[Tensor]) -> None:
    """Raise a ValueError if outputs differ by more than rounding: `sqrt(eps)` of their dtype times the largest value.

    Example:
        >>> import torch
        >>> from lkd.models.inference import check_equal_outputs
        >>> check_equal_outputs([torch.ones(2)], [torch.ones(2) + 1e-6])
    """
    if [(each.shape, each.dtype) for each in given] != [(each.shape, each.dtype) for each in expected]:
        shapes = [[tuple(each.shape) for each in outputs] for outputs in (given, expected)]
        raise ValueError(f"it changes the form of the outputs, from {shapes[1]} to {shapes[0]}")
    for one, other in zip(given, expected, strict=True):
        if not torch.allclose(one, other, rtol=0, atol=rounding(other), equal_nan=True):
            raise ValueError(
                f"it changes the outputs, by up to {float((one - other).abs().max()):.3g} where they reach "
                f"{_largest(other):.3g}"
            )


def rounding(expected: Tensor) -> float:
    """The largest difference from some outputs that counts as rounding; see `check_equal_outputs`.

    Example:
        >>> import torch
        >>> from lkd.models.inference import rounding
        >>> round(rounding(torch.tensor([3.0, -10.0])), 6)
        0.003453
    """
    return torch.finfo(expected.dtype).eps ** 0.5 * _largest(expected) if expected.is_floating_point() else 0.0


def _largest(values: Tensor) -> float:
    finite = values[values.isfinite()]
    return float(finite.abs().max()) if len(finite) else 1.0


def example_images(model: nn.Module) -> Tensor | None:
    """Two random images of a size that a model accepts: its `pretrained_cfg`'s, 32, 64 or 224; None if none fits.

    Example:
        >>> import timm, lkd
        >>> from lkd.models.inference import example_images
        >>> example_images(timm.create_model("mini_slak")).shape
        torch.Size([2, 3, 32, 32])
    """
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        return None
    sizes = [tuple(pretrained_cfg(model).get("input_size", (3, 64, 64))[1:]), (32, 32), (64, 64), (224, 224)]
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        images = torch.randn(2, first.in_channels, *size, generator=generator).to(first.weight)
        try:
            output_tensors(model, lambda model, images=images: model(images))  # type: ignore[misc]
        except Exception:  # networks can raise anything for a wrong size
            continue
        return images
    return None
