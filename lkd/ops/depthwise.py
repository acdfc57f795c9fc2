"""Large-kernel depthwise convolution: functions and modules, for every device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkd.ops import cpu, cuda, operators
from lkd.ops.geometry import same_padding


def depthwise_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Depthwise convolution, stride 1, 'same' zero padding: `F.conv2d(groups=C)` and its derivatives, up to rounding.

    On a CPU, PyTorch's weight gradient takes 10 to 100 times as long as its forward pass, and so does the forward pass
    of a wide kernel. Here both are computed as convolutions in the form and memory format measured to be fastest for
    their shape, without taps that only see padding. On a CUDA device with Triton, each pass is computed by a Triton
    kernel or by PyTorch, whichever is found to be faster when a shape is first seen (see `depthwise_choices`). PyTorch
    computes kernels up to 3 x 3, float64, deterministic mode, and everything with `LKD_TRITON=0` in the environment.
    Other devices use `F.conv2d`.

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
    if input.device.type == "cpu" and input.numel():
        (output,) = depthwise_branches(input, [weight])
        return output if bias is None else output + bias.to(output.dtype)[:, None, None]
    return _convolve_elsewhere(input, weight, bias)


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
    if input.device.type in ("cpu", "cuda"):
        input, *weights = _autocast(input, *weights)
    if input.device.type != "cpu" or not input.numel():
        return [_convolve_elsewhere(input, weight, None) for weight in weights]
    return cpu.Branches.apply(input, *weights)


def _convolve_elsewhere(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`depthwise_conv2d` on a device other than a CPU, or of an empty input."""
    if input.device.type == "cuda":
        input, weight, *biases = _autocast(input, weight, *([] if bias is None else [bias]))
        bias = biases[0] if biases else None
        if cuda.worthwhile(input, weight.shape[2:]):
            return operators.convolution(input, weight, bias)
    return F.conv2d(input, weight, bias, padding=same_padding(weight), groups=input.shape[1])


def _autocast(*tensors: Tensor) -> list[Tensor]:
    """Cast tensors as autocast does for a convolution, if it is enabled on their device."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device) or tensors[0].dtype == torch.float64:
        return list(tensors)
    return [tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors]


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
