"""CSWin: attention in cross-shaped windows (Dong et al. 2021, arXiv 2107.00652).

Parameter names follow the authors' release; their files load unchanged.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp, calculate_drop_path_rates
from timm.models import build_model_with_cfg, checkpoint, generate_default_cfgs, register_model
from torch import Tensor, nn

from lkd.models.classifier import Classifier, imagenet_cfg, initialise, linear_head


class StripeAttention(nn.Module):
    """Attention within stripes, plus LePE: a 3x3 depthwise convolution of the values, padded at the stripe's border.

    Args:
        dim: channels each of q, k and v.
        heads: attention heads.
        stripe: `(height, width)` of a stripe; None for the full side of the map.
    """

    def __init__(self, dim: int, heads: int, stripe: tuple[int | None, int | None]):
        super().__init__()
        self.heads, self.stripe = heads, stripe
        self.get_v = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, qkv: Tensor, side: tuple[int, int]) -> Tensor:
        """`(B, H*W, 3, dim)` of a map of `side` (H, W) to `(B, H*W, dim)`."""
        height, width = side
        tall, broad = self.stripe[0] or height, self.stripe[1] or width
        if height % tall or width % broad:
            raise ValueError(
                f"a {height}x{width} map does not divide into {tall}x{broad} stripes: change the image size"
            )
        rows, columns = height // tall, width // broad
        batch, _, _, dim = qkv.shape
        stripes = qkv.reshape(batch, rows, tall, columns, broad, 3, dim).permute(5, 0, 1, 3, 2, 4, 6)
        query, key, value = stripes.reshape(3, -1, tall * broad, self.heads, dim // self.heads).transpose(2, 3)
        images = stripes[2].reshape(-1, tall, broad, dim).permute(0, 3, 1, 2)
        lepe = self.get_v(images).flatten(2).mT
        out = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(lepe.shape) + lepe
        out = out.reshape(batch, rows, columns, tall, broad, dim).transpose(2, 3)
        return out.reshape(batch, height * width, dim)


class CSWinBlock(nn.Module):
    """`x + proj(attention(LN x))`, then `x + mlp(LN x)`.

    Half of the channels attend within vertical stripes, half within horizontal ones. With `split=None`, all channels
    attend over the whole map.
    """

    def __init__(self, dim: int, heads: int, split: int | None, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        stripes: list[tuple[int | None, int | None]] = (
            [(None, None)] if split is None else [(None, split), (split, None)]
        )
        self.attns = nn.ModuleList(
            StripeAttention(dim // len(stripes), heads // len(stripes), stripe) for stripe in stripes
        )
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor, side: tuple[int, int]) -> Tensor:
        """Tokens `(B, H*W, C)` of a map of `side` (H, W) to the same shape."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, -1)).chunk(len(self.attns), dim=-1)
        attended = [attention(part, side) for attention, part in zip(self.attns, qkv, strict=True)]
        x = x + self.drop_path(self.proj(torch.cat(attended, dim=-1)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Merge(nn.Module):
    """Downsampling between stages: a 3x3 convolution of stride 2, then layer norm."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, 2, 1)
        self.norm = nn.LayerNorm(after)

    def forward(self, x: Tensor) -> Tensor:
        """A map `(B, C, H, W)` to tokens `(B, H*W/4, C')`."""
        return self.norm(self.conv(x).flatten(2).mT)


class ToTokens(nn.Module):
    """Flatten a map to tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, H*W, C)`."""
        return x.flatten(2).mT


class CSWin(Classifier):
    """CSWin transformer.

    Args:
        dims: channels of each stage.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        splits: stripe width of each stage; None for attention over the whole map.
        embed: kernel size, stride and padding of the first convolution.

    Example:
        >>> import torch
        >>> from lkd.models.cswin import CSWin
        >>> net = CSWin(1, 10, dims=(8, 16), depths=(1, 1), heads=(2, 4), splits=(2, None), embed=(3, 2, 1))
        >>> net(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        dims: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (1, 2, 21, 1),
        heads: Sequence[int] = (2, 4, 8, 16),
        splits: Sequence[int | None] = (1, 2, 7, None),
        embed: tuple[int, int, int] = (7, 4, 2),
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        rates: Any = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = dims[-1]
        self.stage1_conv_embed = nn.Sequential(nn.Conv2d(in_chans, dims[0], *embed), ToTokens(), nn.LayerNorm(dims[0]))
        self.stage_names = [f"stage{i + 1}" for i in range(len(dims))]
        for i, (name, dim) in enumerate(zip(self.stage_names, dims, strict=True)):
            if i:
                setattr(self, f"merge{i}", Merge(dims[i - 1], dim))
            setattr(self, name, nn.ModuleList(CSWinBlock(dim, heads[i], splits[i], rate) for rate in rates[i]))
        self.feature_info = [
            {"num_chs": dim, "reduction": embed[1] * 2**i, "module": name}
            for i, (name, dim) in enumerate(zip(self.stage_names, dims, strict=True))
        ]
        self.norm = nn.LayerNorm(dims[-1])
        for module in self.modules():
            if isinstance(module, nn.Linear):
                initialise(module)
        self.head = linear_head(dims[-1], num_classes)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's patterns of parameter names by layer: stem, then blocks, or stages if `coarse`."""
        blocks = [(r"^stage(\d+)\.(\d+)", None), (r"^merge(\d+)", (99999,)), (r"^norm", (99999,))]
        return {"stem": r"^stage1_conv_embed", "blocks": r"^(?:stage|merge)(\d+)" if coarse else blocks}

    def stage_maps(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the feature map `(B, C, h, w)` of each stage for images `(B, in_chans, H, W)`."""
        convolution, to_tokens, norm = self.stage1_conv_embed
        x = convolution(x)
        side = (x.shape[2], x.shape[3])
        x = norm(to_tokens(x))
        for i, name in enumerate(self.stage_names):
            if i:
                x = getattr(self, f"merge{i}")(x.mT.unflatten(2, side))
                side = ((side[0] + 1) // 2, (side[1] + 1) // 2)
            for block in getattr(self, name):
                x = checkpoint(block, x, side) if self.grad_checkpointing and self.training else block(x, side)
            yield x.mT.unflatten(2, side)

    def normed(self, last: Tensor) -> Tensor:
        """Apply the final norm to the last map."""
        return self.norm(last.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def features_of(self, last: Tensor) -> Tensor:
        """Normalised tokens `(B, h*w, C)`, from the last map `(B, C, h, w)`."""
        return self.norm(last.flatten(2).mT)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Tokens `(B, N, C)` to logits `(B, num_classes)` or, with `pre_logits`, their mean `(B, C)`."""
        x = x.mean(1)
        return x if pre_logits else self.head(x)


default_cfgs = generate_default_cfgs(
    {"cswin_tiny": imagenet_cfg("stage1_conv_embed.0", "head", crop_pct=0.9, paper_ids="arXiv:2107.00652")}
)


@register_model
def cswin_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSWin-T: stripes of 1, 2 and 7, then global attention; image sides must be multiples of 112."""
    return build_model_with_cfg(
        CSWin, "cswin_tiny", pretrained, feature_cfg={"out_indices": (0, 1, 2, 3), "feature_cls": "getter"}, **kwargs
    )
