"""Depthwise convolution on a CPU: each pass in the form and memory format measured to be fastest for its shape."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.grad import conv2d_weight

from lkd.ops.geometry import crop, layout_of, same_padding

_NARROW = 13
"""The widest kernel that oneDNN convolves fast with contiguous tensors; wider ones take 20 times as long, except with
channels last."""


class Branches(torch.autograd.Function):
    """Convolutions of one input with several weights; the backward pass converts the input only once."""

    @staticmethod
    def forward(ctx: FunctionCtx, input: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """Input and weights to the outputs."""
        ctx.save_for_backward(input, *weights)
        return tuple(torch.ops.lkd.depthwise_conv2d(input, weight) for weight in weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to the input and the weights."""
        input, *weights = ctx.saved_tensors
        needs_input, *needs_weight = ctx.needs_input_grad
        input_gradient = None
        if needs_input:
            input_gradient = convolve(grads[0], weights[0].flip(2, 3))
            for grad, weight in zip(grads[1:], weights[1:], strict=True):
                input_gradient += convolve(grad, weight.flip(2, 3))
        if len(weights) > 1:
            input = input.contiguous()
        weight_gradients = [
            weight_gradient(input, grad, weight) if needed else None
            for grad, weight, needed in zip(grads, weights, needs_weight, strict=True)
        ]
        return input_gradient, *weight_gradients


def convolve(input: Tensor, weight: Tensor) -> Tensor:
    """`F.conv2d(input, weight, groups=C)` without taps that only meet padding, in the memory format of `input`."""
    kernel, layout = crop(weight, input), layout_of(input)
    if kernel.shape[3] > _NARROW:
        kernel = _widened(kernel)
        input = _widened(input).contiguous(memory_format=torch.channels_last)
    output = F.conv2d(input, kernel, padding=same_padding(kernel), groups=input.shape[1])
    return output.to(weight.dtype).contiguous(memory_format=layout)


def weight_gradient(input: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """`dL/dw[c,0,i,j] = sum_{b,y,x} input[b,c,y+i-kh//2,x+j-kw//2] grad[b,c,y,x]`."""
    input, grad, kernel = _widened(input), _widened(grad), crop(weight, input)
    rows, columns = kernel.shape[2:]
    if max(rows, columns) <= 3 and layout_of(input) == torch.channels_last:
        gradient = conv2d_weight(input, kernel.shape, grad, padding=same_padding(kernel), groups=input.shape[1])
    elif columns > _NARROW >= rows:
        gradient = _gradient_by_image(input.mT.contiguous(), grad.mT, (columns, rows)).mT
    else:
        layout = torch.channels_last if columns > _NARROW else torch.contiguous_format
        gradient = _gradient_by_image(input, grad, (rows, columns), layout)
    down, right = (weight.shape[2] - rows) // 2, (weight.shape[3] - columns) // 2
    return F.pad(gradient, (right, right, down, down)).to(weight.dtype)


def _gradient_by_image(
    input: Tensor, grad: Tensor, kernel: tuple[int, int], layout: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """Weight gradient as a convolution with one group per image and channel, and the output gradient as the kernel."""
    batch, channels, height, width = input.shape
    groups = batch * channels
    maps = input.reshape(1, groups, height, width).contiguous(memory_format=layout)
    padding = (kernel[0] // 2, kernel[1] // 2)
    gradients = F.conv2d(maps, grad.reshape(groups, 1, height, width), padding=padding, groups=groups)
    return gradients.reshape(batch, channels, 1, *kernel).sum(0)


def _widened(tensor: Tensor) -> Tensor:
    """Cast half precision to float32: oneDNN hangs for some wide half-precision kernels."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
