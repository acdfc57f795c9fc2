"""The mini family: the papers' architectures for 32x32 images, small enough to train on a CPU.

Teachers have three stages, with maps of 16, 8 and 4 pixels, and cost about 7 M multiply-accumulates per image; students
cost about a tenth. On maps this small a 7x7 kernel is already large: the counterpart of ConvNeXt's 7 on 56 pixels is 3.
Linear layers are initialised by fan-in and layer scale is 0.1: the std of 0.02 and the 1e-6 of wide networks stall
narrow networks in short training.
"""

from typing import Any

from timm.layers import trunc_normal_
from timm.models import VisionTransformer, build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from lkd.models.cswin import CSWin
from lkd.models.slak import SLaK

_CFG = {"input_size": (3, 32, 32), "num_classes": 10, "mean": (0.5,) * 3, "std": (0.5,) * 3}
_HEADS = {
    "mini_slak": ("downsample_layers.0.0", "head"),
    "mini_convnext": ("downsample_layers.0.0", "head"),
    "mini_convnext_nano": ("downsample_layers.0.0", "head"),
    "mini_swin": ("patch_embed.proj", "head.fc"),
    "mini_cswin": ("stage1_conv_embed.0", "head"),
    "mini_vit": ("patch_embed.proj", "head"),
    "mini_resnet": ("stem.conv", "head.fc"),
}
_FIXED_SIZE = ("mini_swin", "mini_vit")
_MAPS = {"mini_vit": 2, "mini_resnet": 3}
default_cfgs = generate_default_cfgs(
    {
        name: {**_CFG, "first_conv": first, "classifier": head, "fixed_input_size": name in _FIXED_SIZE}
        for name, (first, head) in _HEADS.items()
    }
)


def _build(
    cls: type[nn.Module], name: str, pretrained: bool, defaults: dict[str, Any], given: dict[str, Any]
) -> nn.Module:
    arguments = {**defaults, **given}
    maps = range(len(arguments["depths"]) if "depths" in arguments else _MAPS[name])
    feature_cfg = {"out_indices": tuple(maps), "feature_cls": "getter"}

    def initialised(**kwargs: Any) -> nn.Module:
        model = cls(**kwargs)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=module.in_features**-0.5)
        return model

    return build_model_with_cfg(initialised, name, pretrained, feature_cfg=feature_cfg, **arguments)


@register_model
def mini_slak(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SLaK with kernels 15, 13, 7 on maps of 16, 8, 4 pixels; the paper has 51 on 56."""
    defaults = dict(
        dims=(24, 48, 96), depths=(1, 1, 2), kernel_sizes=(15, 13, 7), small_kernel=5, patch_size=2, layer_scale=0.1
    )
    return _build(SLaK, "mini_slak", pretrained, defaults, kwargs)


@register_model
def mini_convnext(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """`mini_slak` with 3x3 kernels: ConvNeXt (with batch norm) at this scale."""
    defaults = dict(
        dims=(24, 48, 96), depths=(1, 1, 2), kernel_sizes=(3, 3, 3), small_kernel=None, patch_size=2, layer_scale=0.1
    )
    return _build(SLaK, "mini_convnext", pretrained, defaults, kwargs)


@register_model
def mini_convnext_nano(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Student: `mini_convnext` with a third of the width, kernel 3."""
    defaults = dict(
        dims=(8, 16, 32), depths=(1, 1, 1), kernel_sizes=(3, 3, 3), small_kernel=None, patch_size=2, layer_scale=0.1
    )
    return _build(SLaK, "mini_convnext_nano", pretrained, defaults, kwargs)


@register_model
def mini_swin(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Swin with windows of 4 on maps of 16, 8, 4 pixels."""
    defaults = dict(
        img_size=32,
        patch_size=2,
        window_size=4,
        embed_dim=20,
        depths=(1, 1, 2),
        num_heads=(2, 4, 8),
        drop_path_rate=0.0,
    )
    return _build(SwinTransformer, "mini_swin", pretrained, defaults, kwargs)


@register_model
def mini_cswin(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSWin with stripes of 1 and 2, then global attention."""
    defaults = dict(dims=(20, 40, 80), depths=(1, 1, 2), heads=(2, 4, 8), splits=(1, 2, None), embed=(3, 2, 1))
    return _build(CSWin, "mini_cswin", pretrained, defaults, kwargs)


@register_model
def mini_vit(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ViT with patch size 4, without class token."""
    defaults = dict(img_size=32, patch_size=4, embed_dim=64, depth=2, num_heads=4, class_token=False, global_pool="avg")
    return _build(VisionTransformer, "mini_vit", pretrained, defaults, kwargs)


@register_model
def mini_resnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Student: ResNet of three basic blocks with 8, 16 and 32 channels."""
    blocks = tuple(ByoBlockCfg(type="basic", d=1, c=c, s=s) for c, s in ((8, 1), (16, 2), (32, 2)))
    defaults = dict(model_cfg=ByoModelCfg(blocks=blocks, stem_chs=8, stem_type="3x3", stem_pool=""))
    return _build(ByobNet, "mini_resnet", pretrained, defaults, kwargs)
