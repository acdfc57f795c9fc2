"""The "small" ViT of 2020, the paper's ViT teacher: 768 wide, 8 deep; not today's ViT-S (384 wide, 12 deep).

The released model divides attention scores by sqrt(768), the root of the width; every later ViT divides by sqrt(96),
the root of the head width, and timm's fused attention supports only that. The difference is folded into the weights:
when a released file is read, its queries are multiplied by sqrt(96 / 768).
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from timm.models import VisionTransformer, build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import checkpoint_filter_fn as timm_filter
from torch import Tensor, nn

from lkd.models.classifier import imagenet_cfg


class VisionTransformer2020(VisionTransformer):
    """timm's ViT, with a version in its state dicts that distinguishes them from released ones."""

    _version = 2


_CFG = imagenet_cfg("patch_embed.proj", "head", crop_pct=0.9, fixed_input_size=True, paper_ids="arXiv:2010.11929")
default_cfgs = generate_default_cfgs({"vit_small_2020": _CFG})


def checkpoint_filter_fn(state_dict: Mapping[str, Tensor], model: VisionTransformer) -> dict[str, Tensor]:
    """Convert a state dict to timm's attention: fold the scale of released weights into the queries.

    A released state dict is recognised by its patch embedding, a matrix `(768, 768)` where timm has a convolution, or
    by PyTorch's metadata, which have another version than `VisionTransformer2020`. Other state dicts keep their
    queries. As in timm, position embeddings are resampled to the model's image size.

    Example:
        >>> import timm, lkd, torch
        >>> from lkd.models.vit import checkpoint_filter_fn
        >>> net = timm.create_model("vit_small_2020", embed_dim=32, depth=1, num_heads=4, img_size=32)
        >>> state = dict(net.state_dict())
        >>> released = {**state, "patch_embed.proj.weight": state["patch_embed.proj.weight"].flatten(1)}
        >>> queries = [checkpoint_filter_fn(s, net)["blocks.0.attn.qkv.weight"][:32] for s in (state, released)]
        >>> torch.equal(queries[0] / 2, queries[1])
        True
    """
    released = _is_released(state_dict)
    state = timm_filter(OrderedDict(state_dict), model)
    if not released:
        return state
    attention: Any = model.blocks[0].attn
    return {
        key: _fold_scale(value, attention.num_heads) if key.endswith("qkv.weight") else value
        for key, value in state.items()
    }


def _is_released(state_dict: Mapping[str, Tensor]) -> bool:
    patches = state_dict.get("patch_embed.proj.weight")
    if patches is not None and patches.ndim == 2:
        return True
    metadata: dict[str, dict[str, Any]] = getattr(state_dict, "_metadata", {})
    return "" in metadata and metadata[""].get("version") != VisionTransformer2020._version


def _fold_scale(qkv: Tensor, heads: int) -> Tensor:
    """Convert from scores over sqrt(width) to scores over sqrt(width / heads): multiply queries by heads^(-1/2)."""
    query, rest = qkv.tensor_split([qkv.shape[1]])
    return torch.cat([query * heads**-0.5, rest])


@register_model
def vit_small_2020(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """`vit_small_patch16_224` of timm in 2020: width 768, depth 8, 8 heads, MLP ratio 3, no bias in q, k and v."""
    defaults = dict(
        patch_size=16, embed_dim=768, depth=8, num_heads=8, mlp_ratio=3.0, qkv_bias=False, norm_layer=nn.LayerNorm
    )
    return build_model_with_cfg(
        VisionTransformer2020,
        "vit_small_2020",
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": 3, "feature_cls": "getter"},
        **{**defaults, **kwargs},
    )
