"""Diagnosis of a state dict that does not fit a model: differing keys, and model arguments that fit."""

import copy
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lkd.models.timm_attributes import pretrained_cfg

SHOWN = 5
WIDTHS = ((96, 192, 384, 768), (128, 256, 512, 1024))
"""Stage widths of the papers' networks, before `width_factor`."""


def key_differences(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, list[str]]:
    """Missing, unexpected and differing keys of a state dict; empty if PyTorch's strict loading accepts it.

    Example:
        >>> from torch import nn
        >>> from lkd.models.key_mismatch import key_differences
        >>> key_differences({}, nn.Linear(2, 3, bias=False))
        {'missing': ['weight']}
    """
    own = model.state_dict()
    names = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
    }
    forms = [
        f"{name} is {_shown(state[name])}, in the model {_shown(own[name])}"
        for name in own
        if name in state and not is_lazy(own[name]) and _differ(state[name], own[name])
    ]
    if not forms and any(names.values()) and state.keys() & own.keys() and _accepted(state, model):
        return {}
    return {kind: found for kind, found in {**names, "of another form": forms}.items() if found}


def _accepted(state: Mapping[str, Tensor], model: nn.Module) -> bool:
    """Whether PyTorch loads it despite other names, as for batch norms without counters."""
    try:
        with warnings.catch_warnings(action="ignore"):
            copy.deepcopy(model).load_state_dict(state, strict=True)
    except Exception:  # a model's own hooks can raise anything
        return False
    return True


def check_keys(state: Mapping[str, Tensor], model: nn.Module, origin: str) -> None:
    """Raise a ValueError for other keys, shapes or dtypes than the model's; it states how the two networks differ.

    Example:
        >>> from torch import nn
        >>> from lkd.models.key_mismatch import check_keys
        >>> check_keys(nn.Linear(2, 3).state_dict(), nn.Linear(2, 3), "a state dict")
    """
    if found := key_differences(state, model):
        raise ValueError(
            f"{origin} does not fit {type(model).__name__}. "
            + " ".join(_causes(state, model.state_dict(), pretrained_cfg(model)))
            + "".join(f"\n  {len(names)} {kind}: {_some(names)}" for kind, names in found.items())
        )


def _form(tensor: Any) -> str:
    if not isinstance(tensor, Tensor):
        return "extra state"
    return f"{tuple(tensor.shape)}" + ("" if tensor.is_floating_point() else f" of {tensor.dtype}")


def _differ(given: Any, own: Any) -> bool:
    """Whether shape or dtype differ, except for a whole number in place of a counter, which PyTorch casts."""
    return _form(given) != _form(own) and not (_is_counter(own) and _is_whole(given))


def _is_counter(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.ndim and value.dtype in (torch.int64, torch.int32)


def _is_whole(value: Any) -> bool:
    """Whether a value is a scalar integer, such as 3.0: `half()` casts the counters of batch norms to float."""
    return isinstance(value, Tensor) and not value.ndim and not value.is_complex() and float(value).is_integer()


def _shown(value: Any) -> str:
    return f"{tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else _form(value)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _causes(state: Mapping[str, Tensor], own: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> Iterable[str]:
    """Sentences on how the file's network differs from the model, as arguments to pass, most likely first."""
    if not state.keys() & own.keys():
        yield "It is of another architecture: the two have no key in common."
        return
    yield from _unsupported_kernels(state, own)
    there, here = _arguments(state, cfg), _arguments(own, cfg)
    other = {name: value for name, value in there.items() if name in here and here[name] != value}
    if "dims" in other:
        other |= _width(other["dims"])
    if other:
        theirs, ours = (
            ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            for arguments in (other, {name: here[name] for name in other if name in here})
        )
        yield f"The file is of a network with {theirs}; the model has {ours}: create it with the file's values."
    if there["num_classes"] and here["num_classes"] and "num_classes" in other:
        yield f"For other classes, load the file first, then call model.reset_classifier({here['num_classes']})."
    if other.get("small_kernel", 0) is None:
        yield "For whole kernels, create convnext_bn_tiny or convnext_bn_small."
    if not other:
        yield from _partial_causes(state, own)


def _partial_causes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Iterable[str]:
    """Sentences on a file that holds a part of the model, or has another number of classes."""
    missing = [name for name in own if name not in state]
    differing = [name for name in own if name in state and _differ(state[name], own[name])]
    layers = {name.rpartition(".")[0] for name in differing}
    if len(layers) == 1 and not missing and all(_other_length(state[n], own[n]) for n in differing):
        there, here = (len(tensors[differing[0]]) for tensors in (state, own))
        yield (
            f"Only {min(layers)!r} differs, with {there} outputs in the file and {here} in the model: create the model "
            f"with {there} (num_classes={there} in timm), load the file, then replace that layer by one with {here}."
        )
    elif missing and all(name.endswith("num_batches_tracked") for name in missing):
        yield (
            "Only the counters of batch norms are missing from the file, which PyTorch requires for its version: pass "
            "dict(state_dict), which has no version."
        )
    elif not differing and missing and not state.keys() - own.keys():
        if len(parents := {name.rpartition(".")[0] for name in missing}) == 1 and len(missing) < len(own) / 2:
            yield (
                f"The file has all weights except those of {min(parents)!r}: create the model without that layer "
                "(num_classes=0 in timm), load the file, then add a new layer."
            )
        else:
            yield f"The file holds only {len(state)} of the model's {len(own)} weights: pass the whole network's file."


def _other_length(given: Tensor, own: Tensor) -> bool:
    """Whether two tensors have equal shapes except in their first axis."""
    return given.ndim == own.ndim > 0 and given.shape[1:] == own.shape[1:]


def _unsupported_kernels(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Iterable[str]:
    """Sentences on large kernels in a form that the model does not have with any arguments."""
    kernels = [name for name in state if ".large_kernel." in name]
    parts = {part for name in kernels for part in name.split(".")}
    if not any(".large_kernel." in name for name in own):
        return
    if any(name.endswith("dwconv.weight") for name in state):
        yield "The file is of a ConvNeXt without batch norm: load it into timm's convnext_tiny, for example."
    elif kernels and "bn" not in parts:
        yield "The file's kernels have no batch norm (trained with bn=False, or folded): lkd's models have one."
    elif {"lkb_origin", "small_conv"} <= parts:
        yield "The file has whole kernels with a parallel small kernel: no model of lkd has this form."


def _arguments(state: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a network, inferred from the names and shapes of its weights."""
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    found: dict[str, Any] = {"num_classes": shapes.get(f"{cfg.get('classifier')}.weight", (0,))[0]}
    stem = shapes.get(f"{cfg.get('first_conv')}.weight", ())
    if len(stem) == 4:
        found["in_chans"] = stem[1]
    found |= _depths(shapes)
    if "cls_token" in shapes:
        found["embed_dim"] = shapes["cls_token"][-1]
    if "downsample_layers.0.0.weight" in shapes:
        found |= _slak_arguments(shapes, len(found.get("depths", ())))
    return found


def _depths(names: Iterable[str]) -> dict[str, Any]:
    """Blocks per stage, from names such as `stages.2.8.norm` and `stage3.20.norm1`, or total, from `blocks.7.norm1`."""
    blocks: dict[str, set[str]] = {}
    for name in names:
        if found := re.match(r"(stages\.\d+|stage\d+|blocks)\.(?:blocks\.)?(\d+)\.", name):
            blocks.setdefault(found[1], set()).add(found[2])
    depths = tuple(len(numbers) for _, numbers in sorted(blocks.items()))
    if "blocks" in blocks:
        return {"depth": depths[0]}
    return {"depths": depths} if depths else {}


def _slak_arguments(shapes: Mapping[str, tuple[int, ...]], stages: int) -> dict[str, Any]:
    branch = "LoRA1" if any(".LoRA1." in name for name in shapes) else "lkb_origin"
    kernels = [shapes.get(f"stages.{i}.0.large_kernel.{branch}.conv.weight", ()) for i in range(stages)]
    found: dict[str, Any] = {"dims": tuple(shapes.get(f"stages.{i}.0.norm.weight", (0,))[0] for i in range(stages))}
    if all(len(kernel) == 4 for kernel in kernels):
        found["kernel_sizes"] = tuple(kernel[2] for kernel in kernels)
        found["small_kernel"] = kernels[0][3] if branch == "LoRA1" else None
    return found


def _width(dims: tuple[int, ...]) -> dict[str, Any]:
    """`dims` and `width_factor`: one of the papers' widths and a round factor if they match, else `dims` and 1."""
    for factor in (tenths / 10 for tenths in (10, 13, *range(5, 31))):
        for base in WIDTHS:
            if tuple(int(dim * factor) for dim in base) == dims:
                return {"dims": base, "width_factor": factor}
    return {"dims": dims, "width_factor": 1.0}
