"""The large-kernel depthwise convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx


def depthwise_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Depthwise convolution, stride 1, 'same' zero padding; equal to `F.conv2d(groups=C)` in values and derivatives.

    On CPU, PyTorch's own weight gradient of a depthwise convolution takes 10 to 30 times as long as its forward pass,
    and so does the forward pass of a kernel much wider than high. Here the weight gradient is a convolution with batch
    and channels as groups, and a wide kernel runs on the transposed map. Other devices use `F.conv2d` as it is.

    Args:
        input: `(B, C, H, W)`, floating point, any H and W.
        weight: `(C, 1, kh, kw)`, kh and kw odd, dtype of `input`.
        bias: `(C,)` or None.

    Returns:
        `(B, C, H, W)`.

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
    if input.device.type != "cpu" or not input.numel() or torch.compiler.is_compiling():
        return F.conv2d(input, weight, bias, padding=_padding(weight), groups=input.shape[1])
    if torch.is_autocast_enabled("cpu") and input.dtype != torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
        input, weight = input.to(dtype), weight.to(dtype)
        bias = bias if bias is None else bias.to(dtype)
    output = _Depthwise.apply(input, weight)
    return output if bias is None else output + bias[:, None, None]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, input: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(input, weight)
        return _convolve(input, weight)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        input, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        needs_input, needs_weight = ctx.needs_input_grad  # type: ignore[attr-defined]
        return (
            _convolve(grad, weight.flip(2, 3)) if needs_input else None,
            _weight_gradient(input, grad, weight) if needs_weight else None,
        )


def _convolve(input: Tensor, weight: Tensor) -> Tensor:
    if _wide(weight):
        return _convolve(input.mT.contiguous(), weight.mT.contiguous()).mT
    return F.conv2d(input, weight, padding=_padding(weight), groups=input.shape[1])


def _weight_gradient(input: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """`dL/dw[c,0,i,j] = sum_{b,y,x} input[b,c,y+i-kh//2,x+j-kw//2] grad[b,c,y,x]`, each (b, c) a group of its own."""
    if _wide(weight):
        return _weight_gradient(input.mT.contiguous(), grad.mT.contiguous(), weight.mT).mT
    batch, channels, height, width = input.shape
    per_image = F.conv2d(
        input.reshape(1, batch * channels, height, width),
        grad.reshape(batch * channels, 1, height, width),
        padding=_padding(weight),
        groups=batch * channels,
    )
    return per_image.reshape(batch, *weight.shape).sum(0)


def _wide(weight: Tensor) -> bool:
    return weight.shape[3] > weight.shape[2]


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
