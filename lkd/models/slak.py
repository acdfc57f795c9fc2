"""SLaK: ConvNeXt with large decomposed depthwise kernels (Liu et al. 2022, arXiv 2207.03620).

Parameter names are those of the authors' release, so that their files fit.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from lkd.models.classifier import Classifier, initialise, linear_head
from lkd.ops import depthwise_conv2d


class ConvBN(nn.Module):
    """Depthwise convolution without bias, then batch norm."""

    def __init__(self, channels: int, kernel: tuple[int, int]):
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        return self.bn(depthwise_conv2d(x, self.conv.weight))


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
            raise ValueError(
                f"kernel must be larger than small_kernel={small}, got {kernel}; small_kernel=None for none"
            )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        first, *others = self.children()
        y = first(x)
        for branch in others:
            y = y + branch(x)
        return y


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
        y = self.norm(self.large_kernel(x).permute(0, 2, 3, 1))
        y = self.pwconv2(F.gelu(self.pwconv1(y))) * self.gamma
        return x + self.drop_path(y.permute(0, 3, 1, 2))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a `(B, C, H, W)` map."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SLaK(Classifier):
    """The SLaK network, and with `small_kernel=None` the ConvNeXt with batch norm that the papers use as a student.

    Args:
        dims: channels of each stage before `width_factor`.
        depths: blocks of each stage.
        kernel_sizes: the long side k of each stage's kernels.
        small_kernel: the short side s of the decomposed kernels; None for whole k x k kernels.
        patch_size: side and stride of the stem's convolution.
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
        rates = [
            stage.tolist() for stage in torch.linspace(0, drop_path_rate, sum(depths), device="cpu").split(list(depths))
        ]
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
        self.feature_info: list[dict[str, Any]] = [
            {"num_chs": dim, "reduction": patch_size * 2**i, "module": f"stages.{i}"} for i, dim in enumerate(dims)
        ]
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                initialise(module)
        self.head = linear_head(dims[-1], num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images `(B, in_chans, H, W)` to the last stage's map `(B, C, h, w)`."""
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """A map `(B, C, h, w)` to logits `(B, num_classes)`, or to the pooled features `(B, C)`."""
        x = self.norm(x.mean((2, 3)))
        return x if pre_logits else self.head(x)
