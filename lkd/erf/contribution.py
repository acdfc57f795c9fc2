"""Contribution map: the effect of each pixel on the centre of a network's feature map."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lkd.data.sanity_checks import LARGEST_NORMALISED, warn
from lkd.models.inference import in_eval_mode
from lkd.models.layers import as_map, recorded
from lkd.util.checks import check_flag, unknown
from lkd.util.progress import progress_bar
from lkd.util.torch_defaults import torch_defaults

_PIXELS_AT_ONCE = 2**18
"""Pixels per batch; a larger image forms a batch alone."""


@torch_defaults()
def contribution_map(
    model: nn.Module, images: Tensor, *, layer: str | None = None, progress: bool = False
) -> np.ndarray:
    """Contribution of each pixel to the centre of a network's feature map, as in RepLKNet.

    With `F(x)` the map `(C, h, w)` of an image `x`, in eval mode, and `i` over the images:

        u(x) = sum_c relu(F(x)[c, h // 2, w // 2])
        map = mean_i sum_colours relu(du / dx_i)

    Images are processed in batches; since the network treats images independently, the gradient of the summed `u` holds
    the gradient of each image. The mean is taken in float64, without maps that have non-finite values; a warning states
    their number. Images with values beyond 30 give a warning, as they are not normalised.

    In attention networks, every token depends on every other through the softmax, so their maps compare with ConvNets'
    only in form. Results depend on the image size: report it with them.

    Args:
        model: a model with `forward_features`, as in timm; any module if `layer` is given. Mode, gradients and
            requires_grad are restored. If `forward_features` ends with a module named `norm`, the map before this norm
            is used. Supported features are maps `(B, C, h, w)` or `(B, h, w, C)`, and tokens `(B, N, C)`: see
            `lkd.models.layers.as_map`.
        images: `(N, in_chans, H, W)`, floating point, normalised as the model expects; moved to the model's device and
            dtype. See `sample_images` and `at_size`.
        layer: name of the submodule that outputs the map in `model(images)`; of several calls, the last counts.
        progress: show a progress bar.

    Returns:
        `(H, W)`, float64, at least 0; save it with `numpy.save`.

    Raises:
        TypeError: model or images of another type; images that are not floating point; without `layer`, a model without
            `forward_features`; features that are not a tensor.
        KeyError: unknown layer.
        ValueError: no images, or a shape that the model does not accept; features that are not a map, or do not depend
            on the images; a layer that does not run; no finite map.

    Source: DingXiaoH/RepLKNet-pytorch, erf/visualize_erf.py (Ding et al. 2022, arXiv 2203.06717).

    Example:
        >>> import timm, torch, lkd
        >>> from lkd.erf import area_ratios, contribution_map
        >>> contribution = contribution_map(timm.create_model("mini_slak"), torch.randn(2, 3, 64, 64))
        >>> contribution.shape
        (64, 64)
        >>> [row.threshold for row in area_ratios(contribution)]
        [0.2, 0.3, 0.5, 0.99]
    """
    check_flag("progress", progress)
    _check_images(images)
    _warn_of_values(images)
    features = _features_of(model, layer)
    batches = images.split(max(1, _PIXELS_AT_ONCE // images.shape[2:].numel()))
    total, used = torch.zeros(images.shape[2:], dtype=torch.float64), 0
    with _frozen(model), progress_bar(len(images)) if progress else nullcontext() as bar:
        for batch in batches:
            maps = _contributions(features, model, batch)
            finite = maps[maps.isfinite().flatten(1).all(1)]
            total, used = total + finite.sum(0), used + len(finite)
            if bar is not None:
                bar.update(len(batch))
    if not used:
        raise ValueError(
            f"none of the {len(images)} images gives a finite gradient: check the images, and the model's weights "
            "and precision (float16 overflows: use model.float())"
        )
    if used < len(images):
        warn(
            f"{len(images) - used} of {len(images)} images give no finite gradient and are left out of the mean: check "
            "them for NaN, and the model for float16, which overflows"
        )
    return (total / used).numpy()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Context manager: a model in eval mode with frozen parameters; restores mode and requires_grad on exit."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        with in_eval_mode(model):
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_()


def _run(forward: Callable[[Tensor], Any], model: nn.Module, images: Tensor) -> Any:
    """Apply a method of a model to images.

    Raises:
        ValueError: the model does not accept images of this shape.
    """
    try:
        return forward(images)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(
            f"{type(model).__name__} does not accept images of shape {tuple(images.shape)} ({error}): pass others, or "
            "a model for this size; lkd.erf.at_size changes the image size of a model"
        ) from error


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a tensor, got a {type(images).__name__}: see lkd.erf.sample_images")
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images have shape {tuple(images.shape)}: expected (N, in_chans, H, W), none of them 0")
    if not images.is_floating_point():
        raise TypeError(f"images are {images.dtype}: convert them to floating point, normalised as the model expects")


def _warn_of_values(images: Tensor) -> None:
    low, high = images.aminmax()
    if LARGEST_NORMALISED < max(-low, high) < math.inf:
        warn(f"images have values from {low:.4g} to {high:.4g}: normalise them with the model's mean and std")


def _features_of(model: nn.Module, layer: str | None) -> Callable[[Tensor], Tensor]:
    """The function that maps images to the feature map `(B, C, h, w)`."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got a {type(model).__name__}")
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    if layer is not None and layer not in names:
        raise KeyError(unknown("layer", layer, names))
    if layer is None and not hasattr(model, "forward_features"):
        raise TypeError(
            f"{type(model).__name__} has no forward_features: name the layer whose output is the map, with layer="
            + (f"{names[-1]!r}, for example" if names else "... of a model with submodules")
        )
    if layer is None:
        return lambda images: as_map(_last_features(model, images), model, "", images)
    return lambda images: as_map(_layer_output(model, images, layer), model, layer, images)


def _last_features(model: Any, images: Tensor) -> Any:
    """The output of `forward_features`, or the input of its final norm."""
    norm = getattr(model, "norm", None)
    with _seen_by(norm if isinstance(norm, nn.Module) else nn.Identity()) as seen:
        features = _run(model.forward_features, model, images)
    return seen[0] if seen and features is seen[-1] else features


def _layer_output(model: nn.Module, images: Tensor, layer: str) -> Any:
    with recorded(model, [layer]) as runs:
        _run(model, model, images)
    if not runs[layer]:
        raise ValueError(f"{type(model).__name__}.forward does not run layer {layer!r}: name another layer")
    return runs[layer][-1]


@contextmanager
def _seen_by(module: nn.Module) -> Iterator[list[Any]]:
    """Inputs and output of a module's last run."""
    seen: list[Any] = []

    def note(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        seen[:] = *inputs, output

    handle = module.register_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def _contributions(features: Callable[[Tensor], Tensor], model: nn.Module, images: Tensor) -> Tensor:
    """`sum_colours relu(du / dx)` of each image, `(B, H, W)` in float64 on the CPU."""
    with torch.inference_mode(False), torch.enable_grad():
        like = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), images)
        pixels = images.detach().to(like, copy=True).requires_grad_()
        maps = features(pixels)
        if not maps.requires_grad:
            raise ValueError(
                f"the features of {type(model).__name__} do not depend on the images, according to autograd: the model "
                "must not detach them, nor compute them under no_grad"
            )
        centre = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].relu().sum()
        (gradient,) = torch.autograd.grad(centre, pixels)
    return gradient.relu().cpu().double().sum(1)
