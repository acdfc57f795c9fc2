"""What an objective asks of a network: its logits, and where it compares features, maps of its last stages."""

from typing import Any

from torch import Tensor, nn

from lkd.models.exact import check_outputs, outputs_of
from lkd.objectives import Outputs


def outputs(model: nn.Module, images: Tensor, stages: int) -> Outputs:
    """A network's logits, and the feature maps of its last `stages` stages.

    Maps are those of timm's `forward_intermediates`: tokens in rows and columns without the class token, and, where a
    network has a norm before pooling, after it.

    Args:
        model: images to logits; with `forward_intermediates` and `forward_head`, as timm's models, for `stages` > 0.
        images: `(B, C, H, W)`.
        stages: how many maps, 0 for none.

    Raises:
        TypeError: a model without those methods, or with others of the same names, for `stages` > 0.

    Example:
        >>> import timm, torch
        >>> from lkd.engine.outputs import outputs
        >>> model = timm.create_model("mini_vit", in_chans=1, num_classes=10)
        >>> outputs(model, torch.zeros(2, 1, 32, 32), stages=1).maps[0].shape
        torch.Size([2, 64, 8, 8])
    """
    if not stages:
        return Outputs(model(images))
    intermediates, head = (getattr(model, name, None) for name in ("forward_intermediates", "forward_head"))
    if not callable(intermediates) or not callable(head):
        raise TypeError(
            f"a {type(model).__name__} has no feature maps: give a model with forward_intermediates and forward_head, "
            "as timm's have, or an objective that compares logits alone"
        )
    features, maps = _taken(model, intermediates, images, stages)
    return Outputs(head(features), maps)


def _taken(model: nn.Module, intermediates: Any, images: Tensor, stages: int) -> tuple[Any, tuple[Tensor, ...]]:
    """What timm's `forward_intermediates` gives; refuse a method of that name that gives something else."""
    try:
        features, maps = intermediates(images, indices=stages, norm=True, output_fmt="NCHW")
        found = [(map.ndim, len(map)) for map in maps]
    except (TypeError, ValueError, AttributeError) as error:
        raise TypeError(f"{_foreign(model)} does not take and give what timm's does ({error}): rename it") from error
    if found != [(4, len(images))] * stages:
        raise TypeError(f"{_foreign(model)} gives no {stages} feature map(s) (B, C, h, w), as timm's does: rename it")
    return features, tuple(maps)


def _foreign(model: nn.Module) -> str:
    return f"the method forward_intermediates of {type(model).__name__}"


def feature_maps(model: nn.Module, role: str) -> int | None:
    """How many feature maps a network has by timm's `feature_info`; None for one that does not say.

    Args:
        model: any module.
        role: what to call it in messages, "student" or "teacher".

    Raises:
        TypeError: a `feature_info` that is no list of maps as timm's.

    Example:
        >>> import timm
        >>> from lkd.engine.outputs import feature_maps
        >>> feature_maps(timm.create_model("mini_vit"), "teacher")
        2
    """
    info = getattr(model, "feature_info", None)
    if info is None:
        return None
    listed = [*info] if isinstance(info, list | tuple) or hasattr(info, "info") else None
    if listed is None or not all(isinstance(each, dict) and "num_chs" in each for each in listed):
        raise TypeError(
            f"{role}'s feature_info must be a list with a dict of num_chs, reduction and module for each feature map, "
            f"as timm's, got a {type(info).__name__}: rename the attribute, or compare logits alone"
        )
    return len(listed)


def check_head(model: nn.Module, images: Tensor, stages: int, role: str) -> None:
    """Refuse a network whose logits by `forward_head` after `forward_intermediates` are not those of its `forward`.

    Args:
        model: in eval mode; is left as it is.
        images: `(B, C, H, W)`.
        stages: how many maps the objective compares; without any, nothing is checked.
        role: what to call the model in messages, "student" or "teacher".

    Raises:
        ValueError: they differ, so that what is trained would not be what is evaluated.

    Example:
        >>> import timm, torch
        >>> from lkd.engine.outputs import check_head
        >>> check_head(timm.create_model("mini_vit").eval(), torch.zeros(2, 3, 32, 32), 1, "student")
    """
    if not stages:
        return
    logits = outputs_of(model, lambda network: outputs(network, images, stages).logits)
    try:
        check_outputs(logits, outputs_of(model, lambda network: network(images)))
    except ValueError as error:
        raise ValueError(
            f"{role}'s forward_head after forward_intermediates gives other logits than its forward ({error}): make "
            "them agree, or choose an objective that compares logits alone"
        ) from error
