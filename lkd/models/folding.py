"""Networks in their fastest exact form: batch norm folded, branches merged, the student as timm's ConvNeXt."""

import re
from typing import Any, TypeVar

import timm
from timm.utils import reparameterize_model
from torch import nn

from lkd.models.slak import SLaK
from lkd.models.weights import load_checkpoint

Model = TypeVar("Model", bound=nn.Module)


def fold_batchnorm(model: Model) -> Model:
    """A copy in eval mode with every batch norm folded into the convolution before it: equal outputs, less work.

    With BN's scale g, shift b, mean m and variance v, a convolution's weight w becomes `w g / sqrt(v + eps)` and its
    bias `b - m g / sqrt(v + eps)`. Of a decomposed large kernel, k x s and s x k remain, the s x s branch added to the
    centre of the former; a whole kernel stays one convolution.

    Args:
        model: of this package, or any whose modules have the method that `timm.utils.reparameterize_model` calls;
            one without batch norm comes back as a copy. It is left as it is.

    Raises:
        ValueError: a batch norm would be left.
        TypeError: not a module.

    Example:
        >>> import timm, lkd, torch
        >>> from lkd.models import fold_batchnorm
        >>> model, images = timm.create_model("mini_slak").eval(), torch.rand(1, 3, 32, 32)
        >>> torch.allclose(fold_batchnorm(model)(images), model(images), atol=1e-5)
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    whole: Any = reparameterize_model(nn.Sequential(model))
    folded: Model = whole[0].eval()
    left = [name or "the model itself" for name, module in folded.named_modules() if _is_batchnorm(module)]
    if left:
        raise ValueError(
            f"fold_batchnorm cannot fold {len(left)} batch norms of {type(model).__name__}, the first is {left[0]}: "
            "it folds those of SLaK and of its ConvNeXt form"
        )
    return folded


def _is_batchnorm(module: nn.Module) -> bool:
    return any("BatchNorm" in cls.__name__ for cls in type(module).__mro__)


def to_timm_convnext(model: nn.Module) -> nn.Module:
    """The ConvNeXt student with batch norm as timm's plain ConvNeXt: equal outputs, in eval mode, without drop path.

    Raises:
        ValueError: the model has decomposed kernels, or stages or a stem that timm's ConvNeXt cannot have (it has four
            stages and a stem of stride 1 or 3 to 7).
        TypeError: not a `SLaK`.

    Example:
        >>> import timm, lkd
        >>> from lkd.models import to_timm_convnext
        >>> form = dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), kernel_sizes=(3, 3, 3, 3), patch_size=4)
        >>> student = timm.create_model("mini_convnext", **form)
        >>> to_timm_convnext(student).stages[0].blocks[0].conv_dw.bias.shape
        torch.Size([8])
    """
    if not isinstance(model, SLaK):
        raise TypeError(
            f"model must be a SLaK with whole kernels, such as convnext_bn_tiny, got {type(model).__name__}"
        )
    folded = fold_batchnorm(model).state_dict()
    state = {re.sub(r"\.large_kernel\.(\w+\.)?", ".dwconv.", name): value for name, value in folded.items()}
    depths = [len(list(stage.children())) for stage in model.stages]
    if len(state) < len(folded):
        raise ValueError("timm's ConvNeXt has whole kernels, the model has decomposed ones: its outputs have no equal")
    if len(depths) != 4:
        raise ValueError(f"timm's ConvNeXt has four stages, the model has {len(depths)}")
    stem = state["downsample_layers.0.0.weight"]
    cfg = getattr(model, "pretrained_cfg", {})
    plain: Any = timm.create_model(
        "convnext_tiny",
        pretrained_cfg={**cfg, "architecture": "convnext_tiny", "first_conv": "stem.0", "classifier": "head.fc"},
        depths=tuple(depths),
        dims=tuple(info["num_chs"] for info in model.feature_info),
        kernel_sizes=tuple(state[f"stages.{i}.0.dwconv.weight"].shape[-1] for i in range(4)),
        patch_size=stem.shape[-1],
        in_chans=stem.shape[1],
        num_classes=model.num_classes,
    ).to(stem)
    if [stage["reduction"] for stage in plain.feature_info] != [stage["reduction"] for stage in model.feature_info]:
        raise ValueError(f"timm's ConvNeXt has a stem of stride 1 or 3 to 7, the model one of {stem.shape[-1]}")
    return load_checkpoint(plain, state).eval()
