"""timm's attributes of a model, told from attributes of the same names with another meaning."""

from collections.abc import Mapping
from typing import Any

from torch import nn


def configuration(model: nn.Module) -> Mapping[str, Any]:
    """timm's configuration of a model, its `pretrained_cfg`; empty for a model that timm did not make.

    Example:
        >>> import timm, lkd
        >>> from lkd.models.timm_attributes import configuration
        >>> configuration(timm.create_model("mini_slak"))["classifier"]
        'head'
    """
    config = getattr(model, "pretrained_cfg", None)
    return config if isinstance(config, Mapping) and isinstance(config.get("architecture"), str) else {}
