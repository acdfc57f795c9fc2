"""A network's outputs for an objective: its logits, and the feature maps that are compared."""

from typing import Any

from torch import Tensor, nn

from lkd.models.inference import check_equal_outputs, output_tensors
from lkd.models.layers import check_layers, with_layers
from lkd.models.normalization import Normalized, unwrapped
from lkd.objectives.base import Maps, Outputs


def compute_outputs(model: nn.Module, images: Tensor, stages: Maps) -> Outputs:
    """A network's logits, and the feature maps of its last stages or of named layers.

    The maps of stages come from timm's `forward_intermediates`: tokens are arranged in rows and columns, without the
    class token, and a norm before pooling is applied to them. Of a named layer it is the output that counts.

    Args:
        model: images to logits. For a number of stages it needs timm's methods `forward_intermediates` and
            `forward_head`; for named layers it can be any module. In a `Normalized` it is the network that counts.
        images: `(B, C, H, W)`.
        stages: number of last stages, or names of layers; 0 for logits only.

    Raises:
        TypeError: for a number of stages, a model without these methods, or with different methods of the same names.
        TypeError, ValueError: a named layer whose output is not a map; see `lkd.models.layers.with_layers`.

    Example:
        >>> import timm, torch
        >>> from lkd.objectives.outputs import compute_outputs
        >>> model = timm.create_model("mini_vit", in_chans=1, num_classes=10)
        >>> compute_outputs(model, torch.zeros(2, 1, 32, 32), stages=1).maps[0].shape
        torch.Size([2, 64, 8, 8])
    """
    if not stages:
        return Outputs(model(images))
    if isinstance(model, Normalized):
        return compute_outputs(model.model, model.convert(images), stages)
    if isinstance(stages, tuple):
        return Outputs(*with_layers(model, images, stages))
    intermediates, head = (getattr(model, name, None) for name in ("forward_intermediates", "forward_head"))
    if not callable(intermediates) or not callable(head):
        raise TypeError(
            f"a {type(model).__name__} has no feature maps: give a model with timm's methods forward_intermediates and "
            "forward_head, name its layers (student_layers, teacher_layers), or choose an objective that compares only "
            "logits"
        )
    features, maps = _intermediates(model, intermediates, images, stages)
    return Outputs(head(features), maps)


def _intermediates(model: nn.Module, intermediates: Any, images: Tensor, stages: int) -> tuple[Any, tuple[Tensor, ...]]:
    """Call timm's `forward_intermediates`; refuse a method of that name with another interface."""
    try:
        features, maps = intermediates(images, indices=stages, norm=True, output_fmt="NCHW")
        found = [(map.ndim, len(map)) for map in maps]
    except (TypeError, ValueError, AttributeError) as error:
        raise TypeError(f"{_foreign(model)} has another interface than timm's ({error}): rename it") from error
    if found != [(4, len(images))] * stages:
        raise TypeError(
            f"{_foreign(model)} does not return {stages} feature map(s) (B, C, h, w), as timm's does: rename it"
        )
    return features, tuple(maps)


def _foreign(model: nn.Module) -> str:
    return f"the method forward_intermediates of {type(model).__name__}"


def check_available(model: nn.Module, stages: Maps, role: str, objective: str) -> None:
    """Refuse layers that a network does not have, and more stages than its `feature_info` lists.

    Args:
        model: any module.
        stages: the maps that the objective compares.
        role: the model's name in messages, "student" or "teacher".
        objective: the objective's name in messages.

    Raises:
        KeyError: an unknown layer, with the nearest known one.
        ValueError: more stages than there are.

    Example:
        >>> import timm
        >>> from lkd.objectives.outputs import check_available
        >>> check_available(timm.create_model("mini_vit"), 3, "teacher", "fd")
        Traceback (most recent call last):
        ValueError: teacher has 2 feature maps, objective 'fd' needs 3
    """
    if isinstance(stages, tuple):
        return check_layers(unwrapped(model), stages, role)
    available = count_feature_maps(model, role) if stages else None
    if available is not None and stages > available:
        raise ValueError(f"{role} has {available} feature maps, objective {objective!r} needs {stages}")


def count_feature_maps(model: nn.Module, role: str) -> int | None:
    """The number of feature maps that timm's `feature_info` lists; None for a network without it.

    Args:
        model: any module.
        role: the model's name in messages, "student" or "teacher".

    Raises:
        TypeError: a `feature_info` that is not a list like timm's.

    Example:
        >>> import timm
        >>> from lkd.objectives.outputs import count_feature_maps
        >>> count_feature_maps(timm.create_model("mini_vit"), "teacher")
        2
    """
    info = getattr(unwrapped(model), "feature_info", None)
    if info is None:
        return None
    listed = [*info] if isinstance(info, list | tuple) or hasattr(info, "info") else None
    if listed is None or not all(isinstance(each, dict) and "num_chs" in each for each in listed):
        raise TypeError(
            f"{role}'s feature_info must be a list with a dict of num_chs, reduction and module for each feature map, "
            f"like timm's, got a {type(info).__name__}: rename the attribute, or compare only logits"
        )
    return len(listed)


def check_head(model: nn.Module, images: Tensor, stages: Maps, role: str) -> None:
    """Check that `forward_intermediates` and `forward_head` together give the same logits as `forward`.

    Args:
        model: in eval mode; it is not changed.
        images: `(B, C, H, W)`.
        stages: the maps that the objective compares; without a number of stages, nothing is checked.
        role: the model's name in messages, "student" or "teacher".

    Raises:
        ValueError: the logits differ; evaluation would use other outputs than training.

    Example:
        >>> import timm, torch
        >>> from lkd.objectives.outputs import check_head
        >>> check_head(timm.create_model("mini_vit").eval(), torch.zeros(2, 3, 32, 32), 1, "student")
    """
    if not stages or isinstance(stages, tuple):
        return
    logits = output_tensors(model, lambda network: compute_outputs(network, images, stages).logits)
    try:
        check_equal_outputs(logits, output_tensors(model, lambda network: network(images)))
    except ValueError as error:
        raise ValueError(
            f"{role}'s forward_head after forward_intermediates gives other logits than its forward ({error}): make "
            "them agree, or choose an objective that compares only logits"
        ) from error
