"""State dicts in checkpoints: find them in the file, and adapt their keys."""

import inspect
import re
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lkd.models.timm_attributes import pretrained_cfg
from lkd.models.weight_files import STATE_DICT, StandIn, type_name
from lkd.util.checks import some, unknown

State = OrderedDict[str, Tensor]

KEYS = ("model", "state_dict_ema", "state_dict", "model_ema")
"""Entries of a checkpoint that hold weights, in the order in which the released scripts read them."""

PROJECTORS = ("project.", "projects.", "projector.")
"""Prefixes of layers that the released code adds to a student for feature distillation; inference does not use them."""

COUNTERS = ("n_averaged", "total_ops", "total_params")
"""Entries that `torch.optim.swa_utils.AveragedModel` and thop add to a state dict."""

_WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod)(?:\.|$)")
"""Parts of names added by data parallelism and compilation."""


class Call:
    """Text of a `load_checkpoint` call, for error messages.

    Args:
        source: text of the second argument.
        given: keyword arguments of the original call.

    Example:
        >>> from lkd.models.state_dict import Call
        >>> Call("'model.pth'")("model", key="ema")
        "load_checkpoint(model, 'model.pth', key='ema')"
    """

    def __init__(self, source: str, **given: str | None):
        self.source, self.given = source, given

    def __call__(self, model: str = "model", **changed: str) -> str:
        """The call with another model or changed keyword arguments."""
        named = {name: value for name, value in (self.given | changed).items() if value is not None}
        return f"load_checkpoint({', '.join([model, self.source, *(f'{n}={v!r}' for n, v in named.items())])})"


# Location -----------------------------------------------------------------------------------------------------------


def find_state_dict(content: Any, key: str | None, origin: str, call: Call) -> State:
    """Find the state dict in a file's content, with PyTorch's version metadata.

    Args:
        key: entry that holds the weights, `"outer.inner"` for a nested one; None to search `KEYS`.
        origin: name of the content in error messages.
        call: the user's call, for suggestions in error messages.

    Raises:
        KeyError: no such entry.
        ValueError: not a state dict of dense, finite tensors; the message names the entries that are.
    """
    if key is not None and not isinstance(key, str):
        raise TypeError(f"key must be the name of an entry, got {key!r}")
    _check_mapping(content, origin)
    found = _default(content, origin, call) if key is None else _entry(content, key)
    _check_mapping(found, origin if key is None else f"{origin}, under {key!r},")
    _check_values(found, origin)
    if not found:
        raise ValueError(f"{origin} holds no weights: give the state_dict() of a network")
    state = State(found)
    state._metadata = dict(getattr(found, "_metadata", {}))  # type: ignore[attr-defined]
    return state


def _check_mapping(value: Any, origin: str) -> None:
    if isinstance(value, StandIn) and value.module:
        raise ValueError(
            f"{origin} holds a whole network, a {value.kind}, which only its own program can load: {STATE_DICT}"
        )
    if isinstance(value, nn.Module):
        raise ValueError(f"{origin} holds a whole network, a {type(value).__name__}: give its state_dict()")
    if not isinstance(value, Mapping):
        raise ValueError(f"{origin} holds a {type_name(value)}: expected a dict of names to tensors")


def _default(content: Mapping[Any, Any], origin: str, call: Call) -> Any:
    """The entry under one of `KEYS`, or the content itself."""
    held = [name for name in KEYS if isinstance(content.get(name), Mapping | StandIn | nn.Module)]
    if found := next((name for name in held if _is_state(content[name])), None):
        return content[found]
    if _is_state(content):
        return content
    if others := sorted(_states(content), key=lambda name: -len(_entry(content, name))):
        raise ValueError(
            f"{origin} has no weights under {', '.join(KEYS)}, but state dicts under {some(others)}: "
            f"{' or '.join(call(key=name) for name in others[:2])}"
        )
    if held:
        _check_mapping(content[held[0]], f"{origin}, under {held[0]!r},")
        return content[held[0]]
    if whole := next((name for name, value in content.items() if isinstance(value, StandIn) and value.module), None):
        _check_mapping(content[whole], f"{origin}, under {whole!r},")
    return content


def _entry(content: Mapping[Any, Any], key: str) -> Any:
    """The entry named `key`, or the nested entry at this dotted path."""
    if key in content:
        return content[key]
    outer, _, inner = key.partition(".")
    if inner and isinstance(content.get(outer), Mapping):
        return _entry(content[outer], inner)
    raise KeyError(unknown("key", key, [*_states(content)]))


def _states(content: Mapping[Any, Any], depth: int = 3) -> Iterator[str]:
    """Keys of the state dicts in a file's content, such as `"ema"` and `"ema.shadow"`."""
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Mapping):
            continue
        if value and _is_state(value):
            yield name
        elif depth > 1:
            yield from (f"{name}.{inner}" for inner in _states(value, depth - 1))


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and (isinstance(entry, Tensor) or name.endswith("_extra_state"))
        for name, entry in value.items()
    )


def _check_values(state: Mapping[Any, Any], origin: str) -> None:
    """Refuse values that are not dense, finite tensors."""
    for name, value in state.items():
        if isinstance(name, str) and name.endswith("_extra_state"):
            continue
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{origin} has {type_name(value)} under {name!r}: expected names and tensors only; if it also holds "
                "weights, read it with torch.load, and give a dict of the weights alone"
            )
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ValueError(f"{origin} has no plain dense tensor under {name!r}")
        if value.is_floating_point() and not (value.float() if value.itemsize == 1 else value).isfinite().all():
            raise ValueError(f"{origin} has values that are not finite under {name!r}: its training diverged")


# Names --------------------------------------------------------------------------------------------------------------


def select_prefix(state: State, prefix: str) -> State:
    """Select the weights under a prefix, and drop the prefix from their names.

    Raises:
        KeyError: no such weights; the message names the nearest prefix.

    Example:
        >>> from torch import nn
        >>> from lkd.models.state_dict import select_prefix
        >>> list(select_prefix(nn.Sequential(nn.Linear(2, 3)).state_dict(), "0."))
        ['weight', 'bias']
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a string such as 'backbone.', got {prefix!r}")
    prefix = prefix.rstrip(".") + "."
    part = State((name.removeprefix(prefix), value) for name, value in state.items() if name.startswith(prefix))
    if not part:
        raise KeyError(unknown("prefix", prefix, {name.partition(".")[0] + "." for name in state if "." in name}))
    metadata = getattr(state, "_metadata", {})
    part._metadata = {  # type: ignore[attr-defined]
        path.removeprefix(prefix.rstrip(".")).removeprefix("."): noted
        for path, noted in metadata.items()
        if f"{path}.".startswith(prefix)
    }
    return part


def rename_like(model: nn.Module, state: State) -> State:
    """Rename entries to the model's names, ignoring prefixes of data parallelism and compilation in both."""
    own = {_WRAPPERS.sub("", name): name for name in model.state_dict()}
    plain = {name: _WRAPPERS.sub("", name) for name in state}
    if len(set(plain.values())) < len(plain):
        return state
    named = State((own.get(plain[name], plain[name]), value) for name, value in state.items())
    metadata = getattr(state, "_metadata", {})
    named._metadata = {_WRAPPERS.sub("", path).rstrip("."): noted for path, noted in metadata.items()}  # type: ignore[attr-defined]
    return named


def drop_counters(state: State, model: nn.Module) -> State:
    """Drop `COUNTERS` from a state dict, unless the model has entries of that name."""
    own = {name.rpartition(".")[2] for name in model.state_dict()}
    dropped = {name for name in state if (last := name.rpartition(".")[2]) in COUNTERS and last not in own}
    kept = State((name, value) for name, value in state.items() if name not in dropped)
    kept._metadata = getattr(state, "_metadata", {})  # type: ignore[attr-defined]
    return kept


def common_prefixes(state: Mapping[str, Tensor], at_least: int) -> list[str]:
    """Prefixes of at least `at_least` names, the most frequent first.

    Example:
        >>> from torch import nn
        >>> from lkd.models.state_dict import common_prefixes
        >>> common_prefixes(nn.Sequential(nn.Linear(2, 3)).state_dict(), 2)
        ['0.']
    """
    counts: Counter[str] = Counter()
    for name in state:
        counts.update(name[: dot.end()] for dot in re.finditer(r"\.", name))
    return [prefix for prefix, count in counts.most_common() if count >= at_least]


def apply_timm_filter(state: State, model: nn.Module) -> Mapping[str, Tensor]:
    """Drop projectors, and apply timm's `checkpoint_filter_fn` of the model's architecture, if it has one."""
    own = model.state_dict().keys()
    kept = State((name, value) for name, value in state.items() if name in own or not name.startswith(PROJECTORS))
    kept._metadata = getattr(state, "_metadata", {})  # type: ignore[attr-defined]
    adapt = getattr(inspect.getmodule(type(model)), "checkpoint_filter_fn", None) if pretrained_cfg(model) else None
    try:
        return adapt(kept, model) if adapt else kept
    except Exception:  # another architecture: the later check of names reports it
        return kept
