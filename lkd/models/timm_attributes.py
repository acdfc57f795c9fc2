"""timm's attributes of a model, distinguished from unrelated attributes of the same name."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn


def pretrained_cfg(model: nn.Module) -> Mapping[str, Any]:
    """The `pretrained_cfg` of a timm model; empty for other models.

    Example:
        >>> import timm, lkd
        >>> from lkd.models.timm_attributes import pretrained_cfg
        >>> pretrained_cfg(timm.create_model("mini_slak"))["classifier"]
        'head'
    """
    config = getattr(model, "pretrained_cfg", None)
    return config if isinstance(config, Mapping) and isinstance(config.get("architecture"), str) else {}


def without_decay(model: nn.Module) -> set[str]:
    """Names of a model's parameters without weight decay, by timm's method `no_weight_decay`.

    Raises:
        TypeError: an attribute of this name with another meaning.

    Example:
        >>> import timm
        >>> from lkd.models.timm_attributes import without_decay
        >>> "pos_embed" in without_decay(timm.create_model("mini_vit"))
        True
    """
    named = getattr(model, "no_weight_decay", set)
    try:
        return {*_names(named())}
    except TypeError as error:
        raise TypeError(
            "student's no_weight_decay must be a method that returns a set of parameter names, like timm's "
            f"({error}): rename it"
        ) from error


def _names(given: Any) -> Collection[str]:
    if isinstance(given, str) or not isinstance(given, Collection) or not all(isinstance(each, str) for each in given):
        raise TypeError(f"it returns {given!r}")
    return given
