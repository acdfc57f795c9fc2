"""timm's attributes of a model, distinguished from unrelated attributes of the same name."""

from collections.abc import Mapping
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
