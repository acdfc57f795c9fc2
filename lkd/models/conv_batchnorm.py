"""Batch norms that directly follow a convolution, in any network."""

from collections import Counter
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_weights
from torch.nn.utils.parametrize import is_parametrized

from lkd.models.inference import Forward, has_hooks

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def fold_into_convolutions(model: nn.Module, forward: Forward) -> None:
    """Fold, in place, each batch norm whose input is the output of a convolution, as seen in one forward pass.

    A convolution or norm that runs more than once stays as it is, and so does a norm with hooks or of an unknown class.

    Args:
        model: in eval mode.
        forward: runs the model on some images.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lkd.models.conv_batchnorm import fold_into_convolutions
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
        >>> fold_into_convolutions(model, lambda model: model(torch.zeros(2, 3, 8, 8)))
        >>> model[1]
        Identity()
    """
    for conv, name in _pairs(model, forward):
        norm: Any = model.get_submodule(name)
        statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
        plain = type(norm) in _PLAIN
        model.set_submodule(name, nn.Identity() if plain else nn.Sequential(norm.drop, norm.act).eval())


@torch.no_grad()
def _pairs(model: nn.Module, forward: Forward) -> list[tuple[Any, str]]:
    """Convolutions, each with the name of the batch norm that takes its output."""
    outputs: list[tuple[Tensor, nn.Module]] = []
    pairs: list[tuple[nn.Module, str]] = []
    calls: Counter[object] = Counter()

    def watch_norm(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            calls[name] += 1
            pairs.extend((conv, name) for output, conv in outputs if output is inputs[0])

        return hook

    def watch_convolution(conv: nn.Module, _: Any, output: Tensor) -> None:
        calls[conv] += 1
        outputs.append((output, conv))

    names = [name for name, module in model.named_modules() if name and _foldable(module)]
    handles = [model.get_submodule(name).register_forward_pre_hook(watch_norm(name)) for name in names]
    handles += [
        module.register_forward_hook(watch_convolution)
        for module in model.modules()
        if isinstance(module, _CONVOLUTIONS) and not is_parametrized(module)
    ]
    try:
        forward(model)
    finally:
        for handle in handles:
            handle.remove()
    return [(conv, name) for conv, name in pairs if calls[conv] == calls[name] == 1]


def _foldable(module: nn.Module) -> bool:
    known = type(module) in (*_PLAIN, BatchNormAct2d)
    return known and isinstance(module, _BatchNorm) and module.running_mean is not None and not has_hooks(module)
