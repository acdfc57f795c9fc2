"""Fast large-kernel depthwise convolution for CPUs."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.grad import conv2d_weight
from torch.utils.flop_counter import register_flop_formula

_NARROW = 13
"""The widest kernel that oneDNN convolves fast with contiguous tensors; wider ones take 20 times as long, except with
channels last."""


def depthwise_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Depthwise convolution, stride 1, 'same' zero padding; equal to `F.conv2d(groups=C)` in values and derivatives.

    On a CPU, PyTorch's weight gradient takes 10 to 100 times as long as its forward pass, and so does the forward pass
    of a wide kernel. Here both are computed as convolutions in the form and memory format measured to be fastest for
    their shape, without taps that only meet padding. Other devices use `F.conv2d`.

    Args:
        input: `(B, C, H, W)`, floating point, any H and W.
        weight: `(C, 1, kh, kw)`, kh and kw odd, dtype of `input`.
        bias: `(C,)` or None.

    Returns:
        `(B, C, H, W)`, in the memory format of `input`.

    Raises:
        TypeError: not floating point, or dtypes differ.
        ValueError: a shape other than those above.

    Example:
        >>> import torch
        >>> from lkd.ops import depthwise_conv2d
        >>> depthwise_conv2d(torch.ones(1, 2, 4, 4), torch.ones(2, 1, 5, 3)).shape
        torch.Size([1, 2, 4, 4])
    """
    _check(input, weight, bias)
    if input.device.type != "cpu" or not input.numel():
        return F.conv2d(input, weight, bias, padding=_padding(weight), groups=input.shape[1])
    (output,) = depthwise_branches(input, [weight])
    return output if bias is None else output + bias.to(output.dtype)[:, None, None]


def depthwise_branches(input: Tensor, weights: Sequence[Tensor]) -> Sequence[Tensor]:
    """`depthwise_conv2d` of one input with several weights; the backward pass converts the input only once.

    Args:
        input: `(B, C, H, W)`, floating point, any H and W.
        weights: each `(C, 1, kh, kw)`, kh and kw odd, dtype of `input`.

    Returns:
        `(B, C, H, W)` for each weight, in the memory format of `input`.

    Raises:
        TypeError: not floating point, or dtypes differ.
        ValueError: a shape other than those above.

    Example:
        >>> import torch
        >>> from lkd.ops import depthwise_branches
        >>> len(depthwise_branches(torch.ones(1, 2, 4, 4), [torch.ones(2, 1, 5, 3), torch.ones(2, 1, 3, 5)]))
        2
    """
    for weight in weights:
        _check(input, weight, None)
    if input.device.type != "cpu" or not input.numel():
        return [F.conv2d(input, weight, padding=_padding(weight), groups=input.shape[1]) for weight in weights]
    if torch.is_autocast_enabled("cpu") and input.dtype != torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
        input, weights = input.to(dtype), [weight.to(dtype) for weight in weights]
    return _Depthwise.apply(input, *weights)


class DepthwiseConv2d(nn.Conv2d):
    """Depthwise `nn.Conv2d` with stride 1 and 'same' padding, computed by `depthwise_conv2d`.

    An unbatched image is computed by `nn.Conv2d`.

    Args:
        channels: input and output channels.
        kernel_size: height and width, odd.
        bias: whether to add a bias.

    Example:
        >>> import torch
        >>> from lkd.ops import DepthwiseConv2d
        >>> DepthwiseConv2d(2, (51, 5))(torch.zeros(1, 2, 8, 8)).shape
        torch.Size([1, 2, 8, 8])
    """

    def __init__(self, channels: int, kernel_size: tuple[int, int], bias: bool = True):
        padding = (kernel_size[0] // 2, kernel_size[1] // 2)
        super().__init__(channels, channels, kernel_size, padding=padding, groups=channels, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        if input.ndim == 3:
            return super().forward(input)
        return depthwise_conv2d(input, self.weight, self.bias)


def fast_depthwise(model: nn.Module) -> nn.Module:
    """Make every depthwise `nn.Conv2d` of stride 1 and 'same' padding in a model use `depthwise_conv2d`.

    Subclasses of `nn.Conv2d` are not changed, nor convolutions with a custom forward, a replaced kernel of another
    size, or weights that are not dense real tensors.

    Args:
        model: modified in place; parameters, state dict and outputs do not change.

    Returns:
        The model.

    Example:
        >>> import timm
        >>> from lkd.ops import fast_depthwise
        >>> model = fast_depthwise(timm.create_model("convnext_atto"))
    """
    for conv in slow_depthwise(model):
        conv.__class__ = DepthwiseConv2d
    return model


def slow_depthwise(model: nn.Module) -> list[nn.Conv2d]:
    """List the convolutions of a model that `fast_depthwise` would change.

    Example:
        >>> from torch import nn
        >>> from lkd.ops import slow_depthwise
        >>> slow_depthwise(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=4)))
        [Conv2d(4, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=4)]
    """
    convolutions = [module for module in model.modules() if type(module) is nn.Conv2d]
    return [conv for conv in convolutions if _is_plain(conv) and _is_depthwise(conv)]


def _is_plain(conv: nn.Conv2d) -> bool:
    weight = conv.weight
    return (
        not {"forward", "_conv_forward"} & vars(conv).keys()
        and weight.is_floating_point()
        and weight.layout == torch.strided
        and weight.shape[2:] == conv.kernel_size
    )


def _is_depthwise(conv: nn.Conv2d) -> bool:
    kernel = conv.kernel_size
    return (
        conv.groups == conv.in_channels == conv.out_channels
        and all(side % 2 for side in kernel)
        and conv.padding in ("same", (kernel[0] // 2, kernel[1] // 2))
        and (conv.stride, conv.dilation, conv.padding_mode) == ((1, 1), (1, 1), "zeros")
    )


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, input: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(input, *weights)
        return tuple(torch.ops.lkd.depthwise_conv2d(input, weight) for weight in weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        input, *weights = ctx.saved_tensors
        needs_input, *needs_weight = ctx.needs_input_grad
        input_gradient = None
        if needs_input:
            input_gradient = _convolve(grads[0], weights[0].flip(2, 3))
            for grad, weight in zip(grads[1:], weights[1:], strict=True):
                input_gradient += _convolve(grad, weight.flip(2, 3))
        if len(weights) > 1:
            input = input.contiguous()
        weight_gradients = [
            _weight_gradient(input, grad, weight) if needed else None
            for grad, weight, needed in zip(grads, weights, needs_weight, strict=True)
        ]
        return input_gradient, *weight_gradients


def _convolve(input: Tensor, weight: Tensor) -> Tensor:
    kernel, layout = _crop(weight, input), _memory_format(input)
    if kernel.shape[3] > _NARROW:
        kernel = _widened(kernel)
        input = _widened(input).contiguous(memory_format=torch.channels_last)
    output = F.conv2d(input, kernel, padding=_padding(kernel), groups=input.shape[1])
    return output.to(weight.dtype).contiguous(memory_format=layout)


def _weight_gradient(input: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """`dL/dw[c,0,i,j] = sum_{b,y,x} input[b,c,y+i-kh//2,x+j-kw//2] grad[b,c,y,x]`."""
    input, grad, kernel = _widened(input), _widened(grad), _crop(weight, input)
    rows, columns = kernel.shape[2:]
    if max(rows, columns) <= 3 and _memory_format(input) == torch.channels_last:
        gradient = conv2d_weight(input, kernel.shape, grad, padding=_padding(kernel), groups=input.shape[1])
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


torch.library.define("lkd::depthwise_conv2d", "(Tensor input, Tensor weight) -> Tensor")
torch.library.impl("lkd::depthwise_conv2d", "CPU", _convolve)


@torch.library.register_fake("lkd::depthwise_conv2d")
def _fake(input: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(input, memory_format=_memory_format(input))


@register_flop_formula(torch.ops.lkd.depthwise_conv2d)
def _flops(input_shape: torch.Size, weight_shape: torch.Size, *_: Any, **__: Any) -> int:
    """FLOPs of a convolution with all taps, as PyTorch counts its own."""
    batch, channels, height, width = input_shape
    return 2 * batch * channels * height * width * weight_shape[2] * weight_shape[3]


def _crop(weight: Tensor, input: Tensor) -> Tensor:
    """Remove the taps of a kernel that lie outside the map at every position."""
    rows, columns = (max(0, k // 2 - n + 1) for k, n in zip(weight.shape[2:], input.shape[2:], strict=True))
    return weight[:, :, rows : weight.shape[2] - rows, columns : weight.shape[3] - columns]


def _widened(tensor: Tensor) -> Tensor:
    """Cast half precision to float32: oneDNN hangs for some wide half-precision kernels."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _memory_format(input: Tensor) -> torch.memory_format:
    last = input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _padding(weight: Tensor) -> tuple[int, int]:
    return weight.shape[2] // 2, weight.shape[3] // 2


def _check(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if input.ndim != 4:
        raise ValueError(f"input must be (B, C, H, W), got shape {tuple(input.shape)}")
    channels = input.shape[1]
    if weight.ndim != 4 or weight.shape[:2] != (channels, 1) or not all(side % 2 for side in weight.shape[2:]):
        raise ValueError(f"weight must be ({channels}, 1, odd, odd) for this input, got shape {tuple(weight.shape)}")
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"bias must be ({channels},) for this input, got shape {tuple(bias.shape)}")
    if not input.is_floating_point():
        raise TypeError(f"input must be floating point, got {input.dtype}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype != input.dtype and not torch.is_autocast_enabled(input.device.type):
            raise TypeError(f"{name} must have input's dtype {input.dtype}, got {tensor.dtype}")
