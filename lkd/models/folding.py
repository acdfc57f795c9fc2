"""Exact inference forms: fold batch norm, merge branches, convert the student to timm's ConvNeXt."""

import copy
import re
from collections import OrderedDict
from typing import Any, TypeVar, cast

import timm
from timm.utils import reparameterize_model
from torch import Tensor, nn

from lkd.models.conv_batchnorm import fold_into_convolutions
from lkd.models.copying import copy_model
from lkd.models.inference import (
    Forward,
    check_equal_outputs,
    example_images,
    has_hooks,
    output_tensors,
    set_eval_mode,
)
from lkd.models.slak import SLaK
from lkd.models.timm_attributes import pretrained_cfg
from lkd.models.weights import load_checkpoint

Model = TypeVar("Model", bound=nn.Module)

_METHODS = ("fuse", "reparameterize", "switch_to_deploy")
"""Methods that `timm.utils.reparameterize_model` looks for on a module, in this order."""


def fold_batchnorm(model: Model, images: Tensor | None = None) -> Model:
    """A copy in eval mode with each batch norm folded into the convolution before it: equal outputs, less work.

    With BN's scale g, shift b, mean m and variance v, a convolution's weight w becomes `w g / sqrt(v + eps)` and its
    bias `b - m g / sqrt(v + eps)`. A decomposed large kernel becomes two convolutions, k x s and s x k, with the s x s
    branch added to the centre of the first; a whole kernel stays one convolution. Outputs on a few images are compared
    with the original's.

    Args:
        model: any model in which each batch norm directly follows a convolution, or belongs to a module with a method
            that `timm.utils.reparameterize_model` calls. Without batch norm, the result is a plain copy. The model is
            unchanged.
        images: images `(B, C, H, W)` for the comparison; by default two random ones of the model's or a common size.

    Raises:
        ValueError: a batch norm cannot be folded; a module's method fails, changes the outputs or would drop hooks;
            the model cannot be copied, or accepts no common image size.
        TypeError: not a module.

    Example:
        >>> import timm, lkd, torch
        >>> from lkd.models import fold_batchnorm
        >>> model, images = timm.create_model("mini_slak").eval(), torch.rand(1, 3, 32, 32)
        >>> torch.allclose(fold_batchnorm(model)(images), model(images), atol=1e-5)
        True
    """
    original: Any = set_eval_mode(copy_model(model, "model"))
    whole = nn.Sequential(OrderedDict(model=original))
    if foldable_modules(whole) or (_batchnorms(whole) and any(isinstance(each, nn.Conv2d) for each in whole.modules())):
        if images is None and (images := example_images(original)) is None:
            raise ValueError(
                f"fold_batchnorm found no image size that {type(model).__name__} accepts, to compare outputs: pass "
                "two images, as images="
            )
        whole = _folded(whole, images)
    folded: Any = whole[0]
    if left := _batchnorms(folded):
        raise ValueError(
            f"fold_batchnorm cannot fold {len(left)} batch norms of {type(model).__name__}, the first is {left[0]}: "
            "it folds a batch norm that directly follows a convolution, each run once"
        )
    return cast(Model, folded)


def _folded(whole: nn.Sequential, images: Tensor) -> nn.Sequential:
    def forward(network: nn.Module) -> Any:
        return network(images)

    expected = output_tensors(whole, forward)
    if foldable_modules(whole):
        whole = merge_branches(whole, forward, expected, "model")
    if _batchnorms(whole):
        fold_into_convolutions(whole, forward)
        check_equal_outputs(output_tensors(whole, forward), expected)
    return whole


def _batchnorms(model: nn.Module) -> list[str]:
    """Names of the batch norms of a model."""
    return [name or "the model itself" for name, module in model.named_modules() if _is_batchnorm(module)]


def _is_batchnorm(module: nn.Module) -> bool:
    return any("BatchNorm" in cls.__name__ for cls in type(module).__mro__)


def foldable_modules(model: nn.Module) -> list[str]:
    """Names of the submodules that `timm.utils.reparameterize_model` changes.

    Example:
        >>> import timm, lkd
        >>> from lkd.models.folding import foldable_modules
        >>> foldable_modules(timm.create_model("mini_slak"))[0]
        'stages.0.0.large_kernel'
    """
    return [name for name, module in model.named_modules() if name and _method(module)]


def merge_branches(model: Model, forward: Forward, expected: list[Tensor], role: str) -> Model:
    """A copy with the branches of its submodules merged by `timm.utils.reparameterize_model`; equal outputs.

    Args:
        model: a copy made by `lkd.models.copying.copy_model`, in eval mode; unchanged.
        forward: runs a model on the images used for the comparison.
        expected: the model's outputs.
        role: name of the model in error messages.

    Raises:
        ValueError: a module's method fails, changes the outputs or would drop hooks; the message names the module.

    Example:
        >>> import timm, lkd, torch
        >>> from lkd.models.folding import foldable_modules, merge_branches
        >>> from lkd.models.inference import output_tensors
        >>> model, forward = timm.create_model("mini_slak").eval(), lambda model: model(torch.zeros(2, 3, 32, 32))
        >>> foldable_modules(merge_branches(model, forward, output_tensors(model, forward), "teacher"))
        []
    """
    if hooked := next((name for name in foldable_modules(model) if _has_hooks(model.get_submodule(name))), None):
        raise ValueError(f"{role}'s module {hooked!r} has hooks, which folding would drop: remove them first")
    try:
        made: Any = reparameterize_model(copy.deepcopy(model), inplace=True)
        check_equal_outputs(output_tensors(made, forward), expected)
    except Exception as error:  # an unrelated method of the same name can raise anything
        raise ValueError(_culprit(model, forward, expected, role) or f"{role} cannot be folded: {error}") from error
    return cast(Model, made)


def _method(module: nn.Module) -> str:
    return next((name for name in _METHODS if hasattr(module, name)), "")


def _has_hooks(module: nn.Module) -> bool:
    return any(map(has_hooks, module.modules()))


def _culprit(model: nn.Module, forward: Forward, expected: list[Tensor], role: str) -> str:
    """Error message for the first module that fails or changes the outputs when folded alone; "" if none does."""
    for name in foldable_modules(model):
        alone = copy.deepcopy(model)
        part = alone.get_submodule(name)
        try:
            made: Any = reparameterize_model(nn.Sequential(part), inplace=True)
            alone.set_submodule(name, made[0])
            check_equal_outputs(output_tensors(alone, forward), expected)
        except Exception as error:  # as above
            return (
                f"{role}'s module {name!r}, a {type(part).__name__}, cannot be folded by its {_method(part)}(), which "
                f"timm's reparameterize_model calls ({error}): rename the method if it has another purpose"
            )
    return ""


def to_timm_convnext(model: nn.Module) -> nn.Module:
    """Convert a ConvNeXt student with batch norm to timm's plain ConvNeXt: equal outputs, eval mode, no drop path.

    Raises:
        ValueError: the model has decomposed kernels; stages or a stem that timm's ConvNeXt does not support (it has
            four stages and a stem of stride 1 or 3 to 7); or a custom forward or hooks that change the outputs.
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
        raise ValueError("model has decomposed kernels: timm's ConvNeXt supports whole ones only")
    if len(depths) != 4:
        raise ValueError(f"model has {len(depths)} stages: timm's ConvNeXt supports four only")
    stem = state["downsample_layers.0.0.weight"]
    cfg = pretrained_cfg(model)
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
        raise ValueError(f"model has a stem of stride {stem.shape[-1]}: timm's ConvNeXt supports 1 and 3 to 7 only")
    plain = load_checkpoint(plain, state).eval()
    _check_converted(plain, set_eval_mode(copy_model(model, "model")))
    return plain


def _check_converted(plain: nn.Module, model: nn.Module) -> None:
    images = example_images(model)
    try:
        check_equal_outputs(*(output_tensors(each, lambda network: network(images)) for each in (plain, model)))
    except ValueError as error:
        raise ValueError(
            f"{type(model).__name__} cannot be converted to timm's ConvNeXt, {error}: its forward or its hooks differ "
            "from SLaK's"
        ) from error
