"""The three PyTorch operators of a depthwise convolution; each is linear in each tensor, so they derive each other.

For `y = depthwise_conv2d(x, w)`, `dL/dx = depthwise_input_gradient(dL/dy, w)` and
`dL/dw = depthwise_weight_gradient(x, dL/dy)`. The derivatives of these two are again among the three, so derivatives of
every order exist.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from lkd.ops import cpu, cuda
from lkd.ops.geometry import layout_of

torch.library.define("lkd::depthwise_conv2d", "(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor")
torch.library.define("lkd::depthwise_input_gradient", "(Tensor grad, Tensor weight) -> Tensor")
torch.library.define("lkd::depthwise_weight_gradient", "(Tensor input, Tensor grad, SymInt[2] kernel) -> Tensor")

convolution = torch.ops.lkd.depthwise_conv2d.default
input_gradient = torch.ops.lkd.depthwise_input_gradient.default
weight_gradient = torch.ops.lkd.depthwise_weight_gradient.default

torch.library.impl("lkd::depthwise_conv2d", "CUDA", cuda.convolve)
torch.library.impl("lkd::depthwise_input_gradient", "CUDA", cuda.input_gradient)
torch.library.impl("lkd::depthwise_weight_gradient", "CUDA", cuda.weight_gradient)


@torch.library.impl("lkd::depthwise_conv2d", "CPU")
def _convolution_on_cpu(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    output = cpu.convolve(input, weight)
    return output if bias is None else output + bias[:, None, None]


@torch.library.impl("lkd::depthwise_input_gradient", "CPU")
def _input_gradient_on_cpu(grad: Tensor, weight: Tensor) -> Tensor:
    return cpu.convolve(grad, weight.flip(2, 3))


@torch.library.impl("lkd::depthwise_weight_gradient", "CPU")
def _weight_gradient_on_cpu(input: Tensor, grad: Tensor, kernel: Sequence[int]) -> Tensor:
    return cpu.weight_gradient(input, grad, input.new_empty(input.shape[1], 1, *kernel)).contiguous()


@torch.library.register_fake("lkd::depthwise_conv2d")
def _fake_convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.empty_like(input, memory_format=layout_of(input))


@torch.library.register_fake("lkd::depthwise_input_gradient")
def _fake_input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(grad, memory_format=layout_of(grad))


@torch.library.register_fake("lkd::depthwise_weight_gradient")
def _fake_weight_gradient(input: Tensor, grad: Tensor, kernel: Sequence[int]) -> Tensor:
    return input.new_empty(input.shape[1], 1, *kernel)


def _keep_two(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.set_materialize_grads(True)


def _derive_convolution(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, weight = ctx.saved_tensors
    needs_input, needs_weight, *needs_bias = ctx.needs_input_grad  # a bias of None is not listed
    return (
        input_gradient(grad, weight) if needs_input else None,
        weight_gradient(input, grad, weight.shape[2:]) if needs_weight else None,
        *(grad.sum((0, 2, 3)) if needed else None for needed in needs_bias),
    )


def _derive_input_gradient(ctx: Any, direction: Tensor) -> tuple[Tensor | None, ...]:
    grad, weight = ctx.saved_tensors
    needs_grad, needs_weight = ctx.needs_input_grad
    return (
        convolution(direction, weight) if needs_grad else None,
        weight_gradient(direction, grad, weight.shape[2:]) if needs_weight else None,
    )


def _derive_weight_gradient(ctx: Any, direction: Tensor) -> tuple[Tensor | None, ...]:
    input, grad = ctx.saved_tensors
    needs_input, needs_grad, _ = ctx.needs_input_grad
    return (
        input_gradient(grad, direction) if needs_input else None,
        convolution(input, direction) if needs_grad else None,
        None,
    )


torch.library.register_autograd("lkd::depthwise_conv2d", _derive_convolution, setup_context=_keep_two)
torch.library.register_autograd("lkd::depthwise_input_gradient", _derive_input_gradient, setup_context=_keep_two)
torch.library.register_autograd("lkd::depthwise_weight_gradient", _derive_weight_gradient, setup_context=_keep_two)


@register_flop_formula([torch.ops.lkd.depthwise_conv2d, torch.ops.lkd.depthwise_input_gradient])
def _flops(input_shape: torch.Size, weight_shape: torch.Size, *_: Any, **__: Any) -> int:
    """FLOPs of a convolution with all taps, as PyTorch counts its own."""
    return 2 * input_shape.numel() * weight_shape[2] * weight_shape[3]


@register_flop_formula(torch.ops.lkd.depthwise_weight_gradient)
def _weight_flops(input_shape: torch.Size, grad_shape: torch.Size, kernel: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * input_shape.numel() * kernel[0] * kernel[1]
