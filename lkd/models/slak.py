"""SLaK: ConvNeXt with large decomposed depthwise kernels (Liu et al. 2022, arXiv 2207.03620).

Parameter names follow the authors' release; their files load unchanged.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, calculate_drop_path_rates
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from lkd.models.classifier import Classifier, imagenet_cfg, initialise, linear_head
from lkd.models.inference import has_hooks
from lkd.ops import DepthwiseConv2d, depthwise_branches


class ConvBN(nn.Module):
    """Depthwise convolution without bias, then batch norm: a branch of `LargeKernel`, which runs it."""

    def __init__(self, channels: int, kernel: tuple[int, int]):
        super().__init__()
        self.conv = DepthwiseConv2d(channels, kernel, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    @torch.no_grad()
    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the equivalent convolution in eval mode."""
        bn = self.bn
        assert bn.running_mean is not None and bn.running_var is not None
        scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
        weight, bias = self.conv.weight * scale[:, None, None, None], bn.bias - bn.running_mean * scale
        return weight.to(bn.weight.dtype), bias.to(bn.weight.dtype)


class LargeKernel(nn.Module):
    """A k x k depthwise convolution; for k > s as the sum k x s + s x k + s x s, each with batch norm.

    `small=None` keeps the k x k kernel whole and has no small branch: ConvNeXt's form.
    """

    def __init__(self, channels: int, kernel: int, small: int | None):
        super().__init__()
        if small is None:
            self.lkb_origin = ConvBN(channels, (kernel, kernel))
        elif kernel > small:
            self.LoRA1 = ConvBN(channels, (kernel, small))
            self.LoRA2 = ConvBN(channels, (small, kernel))
            self.small_conv = ConvBN(channels, (small, small))
        else:
            raise ValueError(f"kernel must be larger than small_kernel={small}, got {kernel}; None for a whole kernel")

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        branches = [branch for branch in self.children() if isinstance(branch, ConvBN)]
        if self.training:
            maps = depthwise_branches(x, [branch.conv.weight for branch in branches])
        else:
            maps = [branch.conv(x) for branch in branches]
        first, *others = (branch.bn(y) for branch, y in zip(branches, maps, strict=True))
        for y in others:
            first += y
        return first

    def fuse(self) -> nn.Module:
        """Equivalent without batch norm: one convolution for a whole kernel, two for a decomposed one."""
        return TwoBranches(self) if hasattr(self, "LoRA1") else _convolution(*self.lkb_origin.folded())


class TwoBranches(nn.Module):
    """A folded decomposed kernel: k x s, with s x s added to its centre, plus s x k, with one bias."""

    def __init__(self, kernel: LargeKernel):
        super().__init__()
        branches = kernel.LoRA1, kernel.LoRA2, kernel.small_conv
        (tall, bias1), (wide, bias2), (small, bias3) = (branch.folded() for branch in branches)
        longer = (tall.shape[2] - small.shape[2]) // 2
        self.vertical = _convolution(tall + F.pad(small, (0, 0, longer, longer)), bias1 + bias2 + bias3)
        self.horizontal = _convolution(wide, None)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y = self.vertical(x)
        y += self.horizontal(x)
        return y


def _convolution(weight: Tensor, bias: Tensor | None) -> DepthwiseConv2d:
    channels, _, height, width = weight.shape
    convolution = DepthwiseConv2d(channels, (height, width), bias=bias is not None)
    convolution.weight = nn.Parameter(weight)
    convolution.bias = bias if bias is None else nn.Parameter(bias)
    return convolution


class Block(nn.Module):
    """`x + DropPath(gamma * W2 GELU(W1 LN(large_kernel(x))))`."""

    def __init__(self, dim: int, kernel: int, small: int | None, drop_path: float, layer_scale: float):
        super().__init__()
        self.large_kernel = LargeKernel(dim, kernel, small)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y = self.large_kernel(x).permute(0, 2, 3, 1)
        parts = _parts(y)
        y = torch.cat([self.mlp(part) for part in parts]) if len(parts) > 1 else self.mlp(y)
        y = self.drop_path(y.permute(0, 3, 1, 2))
        exact = torch.promote_types(x.dtype, self.gamma.dtype)
        in_place = y.dtype == exact and y.is_contiguous(memory_format=torch.channels_last)
        return y.add_(x) if in_place else x.to(exact) + y

    def mlp(self, x: Tensor) -> Tensor:
        """`(B, H, W, C)` to the same shape."""
        if x.device.type == "cuda" and x.dtype == torch.bfloat16 and _are_plain(self.pwconv1, self.pwconv2):
            return self.aligned_mlp(x)
        return self.pwconv2(F.gelu(self.pwconv1(self.norm(x)))) * self.gamma

    def aligned_mlp(self, x: Tensor) -> Tensor:
        """`mlp` in the dtype of `x`, with widths for tensor cores: multiples of 8, padded by zeros.

        Gamma is a factor of the second weight, where float16 would lose it: it starts at 1e-6.
        """
        width, dtype = x.shape[-1], x.dtype
        outer = -width % 8
        inner = 4 * outer
        first, second = self.pwconv1, self.pwconv2
        weights = first.weight, self.gamma[:, None] * second.weight
        biases = first.bias, self.gamma * second.bias
        (up, down), (up_bias, down_bias) = ([each.to(dtype) for each in pair] for pair in (weights, biases))
        hidden = F.gelu(F.linear(_pad(self.norm(x).to(dtype), outer), _pad(up, outer, inner), _pad(up_bias, inner)))
        return F.linear(hidden, _pad(down, inner, outer), _pad(down_bias, outer))[..., :width]


def _pad(x: Tensor, last: int, first: int = 0) -> Tensor:
    """Append zeros to the last dimension and, for a matrix, to the first."""
    return F.pad(x, (0, last, 0, first) if first else (0, last)) if last or first else x


def _are_plain(*layers: nn.Module) -> bool:
    """Whether layers are linear and nothing else, so that their weights can be used in place of a call."""
    return not _has_any_global_hook() and all(map(_is_plain, layers))


def _is_plain(layer: nn.Module) -> bool:
    return (
        type(layer) is nn.Linear
        and type(layer.weight) is type(layer.bias) is nn.Parameter
        and "forward" not in vars(layer)
        and not has_hooks(layer)
    )


_HIDDEN_BYTES = 2**24
"""Size limit of the MLP's hidden layer per pass on a CPU: allocations above 32 MiB are mapped page by page each time,
which takes longer than the arithmetic."""


def _parts(x: Tensor) -> Sequence[Tensor]:
    """Parts of a batch on a CPU; elsewhere, and in an exported graph for any batch size, the whole batch."""
    if x.device.type != "cpu" or isinstance(x.shape[0], torch.SymInt):
        return [x]
    hidden = 4 * x.shape[1:].numel() * x.element_size()
    return x.split(max(1, _HIDDEN_BYTES // hidden))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a `(B, C, H, W)` map."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SLaK(Classifier):
    """SLaK; with `small_kernel=None`, the ConvNeXt with batch norm that the papers use as a student.

    Args:
        dims: channels of each stage before `width_factor`.
        depths: blocks of each stage.
        kernel_sizes: long side k of the kernels of each stage.
        small_kernel: short side s of the decomposed kernels; None for whole k x k kernels. `timm.create_model` drops
            arguments that are None: for whole kernels, create `convnext_bn_tiny`.
        patch_size: kernel size and stride of the stem.
        layer_scale: initial value of gamma.

    Example:
        >>> import torch
        >>> from lkd.models.slak import SLaK
        >>> net = SLaK(in_chans=1, num_classes=10, dims=(8, 16), depths=(1, 1), kernel_sizes=(15, 13), patch_size=2)
        >>> net(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        dims: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (3, 3, 9, 3),
        kernel_sizes: Sequence[int] = (51, 49, 47, 13),
        small_kernel: int | None = 5,
        width_factor: float = 1.0,
        patch_size: int = 4,
        drop_path_rate: float = 0.0,
        layer_scale: float = 1e-6,
    ):
        super().__init__()
        if not len(dims) == len(depths) == len(kernel_sizes):
            raise ValueError(
                f"dims, depths and kernel_sizes need one entry for each stage, got {dims=}, {depths=}, {kernel_sizes=}"
            )
        dims = [int(dim * width_factor) for dim in dims]
        rates: Any = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = dims[-1]
        self.downsample_layers = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(in_chans, dims[0], patch_size, patch_size), ChannelNorm(dims[0], eps=1e-6))]
            + [
                nn.Sequential(ChannelNorm(before, eps=1e-6), nn.Conv2d(before, after, 2, 2))
                for before, after in pairwise(dims)
            ]
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(dim, kernel, small_kernel, rate, layer_scale) for rate in stage_rates))
            for dim, kernel, stage_rates in zip(dims, kernel_sizes, rates, strict=True)
        )
        self.feature_info = [
            {"num_chs": dim, "reduction": patch_size * 2**i, "module": f"stages.{i}"} for i, dim in enumerate(dims)
        ]
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                initialise(module)
        self.head = linear_head(dims[-1], num_classes)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's patterns of parameter names by layer: stem, then blocks, or stages if `coarse`."""
        stages = r"^(?:downsample_layers|stages)\.(\d+)"
        blocks = [(r"^downsample_layers\.(\d+)", (0,)), (r"^stages\.(\d+)\.(\d+)", None), (r"^norm", (99999,))]
        return {"stem": r"^downsample_layers\.0", "blocks": stages if coarse else blocks}

    def stage_maps(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the map `(B, C, h, w)` of each stage, channels last in memory, for images `(B, in_chans, H, W)`."""
        x = x.contiguous(memory_format=torch.channels_last)
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = downsample(x)
            x = checkpoint_seq(stage, x) if self.grad_checkpointing and self.training else stage(x)
            yield x

    def features_of(self, last: Tensor) -> Tensor:
        """The last map `(B, C, h, w)` unchanged: the final norm comes after pooling."""
        return last

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """A map `(B, C, h, w)` to logits `(B, num_classes)` or, with `pre_logits`, pooled features `(B, C)`."""
        x = self.norm(x.mean((2, 3)))
        return x if pre_logits else self.head(x)


def build_slak(name: str, pretrained: bool, defaults: dict[str, Any], given: dict[str, Any]) -> nn.Module:
    """Build a registered SLaK with the options of `timm.create_model`."""
    arguments = {**defaults, **given}
    stages = tuple(range(len(arguments["depths"])))
    feature_cfg = {"out_indices": stages, "feature_cls": "getter"}
    return build_model_with_cfg(SLaK, name, pretrained, feature_cfg=feature_cfg, **arguments)


FIRST_AND_LAST = ("downsample_layers.0.0", "head")
_TINY, _SMALL = (3, 3, 9, 3), (3, 3, 27, 3)
_WHOLE = dict(kernel_sizes=(7, 7, 7, 7), small_kernel=None)

default_cfgs = generate_default_cfgs(
    {
        name: imagenet_cfg(*FIRST_AND_LAST, paper_ids=f"arXiv:{paper}")
        for paper, names in (
            ("2207.03620", ("slak_tiny", "slak_small", "slak_base")),
            ("2305.19412", ("convnext_bn_tiny", "convnext_bn_small")),
        )
        for name in names
    }
)


@register_model
def slak_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SLaK-T: 50.7 M parameters, 30 M of them non-zero in the paper's sparse teachers."""
    return build_slak("slak_tiny", pretrained, dict(depths=_TINY, width_factor=1.3), kwargs)


@register_model
def slak_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SLaK-S: 91.1 M parameters, 55 M of them non-zero in the paper's sparse teachers."""
    return build_slak("slak_small", pretrained, dict(depths=_SMALL, width_factor=1.3), kwargs)


@register_model
def slak_base(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SLaK-B: 158 M parameters, 95 M of them non-zero in the paper's sparse teachers."""
    wide = dict(depths=_SMALL, dims=(128, 256, 512, 1024), width_factor=1.3)
    return build_slak("slak_base", pretrained, wide, kwargs)


@register_model
def convnext_bn_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The paper's student ConvNeXt-T: SLaK with whole 7 x 7 kernels, each with batch norm."""
    return build_slak("convnext_bn_tiny", pretrained, dict(depths=_TINY, **_WHOLE), kwargs)


@register_model
def convnext_bn_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The paper's student ConvNeXt-S: SLaK with whole 7 x 7 kernels, each with batch norm."""
    return build_slak("convnext_bn_small", pretrained, dict(depths=_SMALL, **_WHOLE), kwargs)
