"""timm's model names and arguments of `timm.create_model` that are valid in a recipe."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import timm
from timm.models import get_arch_pretrained_cfgs, split_model_name_tag
from timm.models._registry import get_deprecated_models

from lkd.util.checks import check_number, unknown

SOURCES = ("hf-hub:", "hf_hub:", "local-dir:")
"""Prefixes of names that make timm read weights from the Hugging Face hub or a folder."""

_WEIGHTS = (
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_filter_fn",
    "pretrained_model_args", "checkpoint_path", "cache_dir", "state_dict", "file", "url", "hf_hub_id",
    "hf_hub_filename", "pruned",
)  # fmt: skip
_NO_CLASSIFIER = ("features_only", "out_indices", "feature_cfg", "feature_cls")
_NOT_OF_THE_MODEL = (
    "device", "dtype", "scriptable", "exportable", "no_jit", "kwargs_filter", "model_cfg", "model_name",
)  # fmt: skip
_RATES = ("drop_rate", "drop_path_rate")
"""Suffixes of arguments that are dropout or stochastic depth rates; networks accept any number and fail in training."""

_REFUSED = (
    dict.fromkeys(
        _WEIGHTS,
        "a recipe's student starts from new weights; leave it out, or pass lkd.distill or lkd.train a module that "
        "timm.create_model made with it",
    )
    | dict.fromkeys(_NO_CLASSIFIER, "a student must return logits, not feature maps; leave it out")
    | dict.fromkeys(_NOT_OF_THE_MODEL, "it does not describe the network; leave it out")
    | dict.fromkeys(("in_chans", "num_classes"), "it follows from the data; leave it out")
)


def is_name(name: str) -> bool:
    """Whether timm has a model of exactly this name, including its tag; deprecated names count.

    Example:
        >>> from lkd.models.timm_names import is_name
        >>> is_name("resnet18.a1_in1k"), is_name("resnet18.no_such_tag")
        (True, False)
    """
    if not timm.is_model(name):
        return False
    return name == _architecture(name) or timm.is_model_pretrained(name) or name in get_arch_pretrained_cfgs(name)


def check_source(kind: str, name: str) -> None:
    """Raise a ValueError for a name with the prefix of a source of weights, such as `hf-hub:`.

    Args:
        kind: kind of name for the error message, such as "student model".

    Example:
        >>> from lkd.models.timm_names import check_source
        >>> check_source("teacher model", "resnet18.a1_in1k")
    """
    if name.lower().startswith(SOURCES):
        raise ValueError(
            f"{kind} {name!r} names a source of weights, which can change under the same name: give lkd.distill the "
            f"module, timm.create_model({name!r}, pretrained=True), or the folder of a saved model"
        )


def check_name(kind: str, name: str) -> None:
    """Refuse an unknown or deprecated timm name, with or without a tag.

    Args:
        kind: as for `check_source`.

    Raises:
        KeyError: an unknown model or tag, with the nearest known one; a deprecated name, with the current one.
        ValueError: a name with the prefix of a source of weights; see `check_source`.

    Example:
        >>> from lkd.models.timm_names import check_name
        >>> check_name("teacher model", "resnet18.a1_in1k")
    """
    check_source(kind, name)
    if not timm.is_model(name):
        raise KeyError(unknown(kind, name, timm.list_models()))
    if (architecture := _architecture(name)) in _deprecated():
        raise KeyError(f"{kind} {name!r} is deprecated in timm: {_remedy(_deprecated()[architecture])}")
    if not is_name(name):
        raise KeyError(unknown(kind, name, get_arch_pretrained_cfgs(name) or [architecture]))


def check_new(kind: str, name: str) -> None:
    """Refuse invalid names, as `check_name`, and names with the tag of pretrained weights.

    Args:
        kind: as for `check_source`.
        name: name of a model that starts from new weights.

    Example:
        >>> from lkd.models.timm_names import check_new
        >>> check_new("student model", "resnet18")
    """
    check_name(kind, name)
    if name != (architecture := _architecture(name)):
        raise ValueError(
            f"{kind} {name!r} has the tag of pretrained weights, but a model by name starts from new ones: give "
            f"{architecture!r}, or for pretrained weights the module, "
            f"timm.create_model({name!r}, pretrained=True, in_chans=..., num_classes=...)"
        )


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of `timm.create_model` that do more than describe a classifier with new weights.

    Args:
        arguments: a recipe's `student_args`.

    Raises:
        TypeError, ValueError: an argument that loads weights, changes the network's outputs, follows from the data,
            or is None, which timm ignores; a dropout or stochastic depth rate outside [0, 1).

    Example:
        >>> from lkd.models.timm_names import check_arguments
        >>> check_arguments({"drop_path_rate": 0.1})
    """
    for name, value in arguments.items():
        if name in _REFUSED:
            raise ValueError(f"student_args has {name!r}: {_REFUSED[name]}")
        if value is None:
            raise ValueError(f"student_args has {name}=None, which timm ignores: leave it out")
        if name.endswith(_RATES) and not isinstance(value, list):
            check_number(f"student_args {name}", value, 0, 1, below=True)


@cache
def _deprecated() -> dict[str, str | None]:
    """timm's deprecated names, each with its current one, or None for a removed model."""
    names: dict[str, str | None] = get_deprecated_models()
    return names


def _remedy(present: str | None) -> str:
    """Replacement of a deprecated name, for the error message."""
    if present is None:
        return "it was removed, give another model"
    new = f"give {_architecture(present)!r} for new weights"
    return new if present == _architecture(present) else f"{new}, {present!r} for pretrained ones"


def _architecture(name: str) -> str:
    architecture: str = split_model_name_tag(name)[0]
    return architecture
