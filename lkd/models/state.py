"""State dicts in what a training script saved: where they are, and the names of their weights."""

import inspect
import re
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lkd.models.reading import STATE_DICT, LeftAside, described
from lkd.models.timm_attributes import configuration
from lkd.util.checks import some, unknown

State = OrderedDict[str, Tensor]

KEYS = ("model", "state_dict_ema", "state_dict", "model_ema")
"""Where a training script's file holds its weights, in the order in which the released scripts read them."""

PROJECTORS = ("project.", "projects.", "projector.")
"""Layers that the released code adds to a student for feature distillation, and that no prediction uses."""

COUNTERS = ("n_averaged", "total_ops", "total_params")
"""What `torch.optim.swa_utils.AveragedModel` and thop add to a network's weights."""

_WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod)(?:\.|$)")
"""What data parallelism and compilation add to a name."""


class Call:
    """The text of a call of `load_checkpoint`.

    Args:
        source: the second argument, as text.
        given: the keyword arguments of the call that was made.

    Example:
        >>> from lkd.models.state import Call
        >>> Call("'model.pth'")("model", key="ema")
        "load_checkpoint(model, 'model.pth', key='ema')"
    """

    def __init__(self, source: str, **given: str | None):
        self.source, self.given = source, given

    def __call__(self, model: str = "model", **changed: str) -> str:
        """The call with another model or other keyword arguments."""
        named = {name: value for name, value in (self.given | changed).items() if value is not None}
        return f"load_checkpoint({', '.join([model, self.source, *(f'{n}={v!r}' for n, v in named.items())])})"


# Where --------------------------------------------------------------------------------------------------------------


def weights_in(content: Any, key: str | None, origin: str, call: Call) -> State:
    """The state dict in a file's content, with the versions that PyTorch noted.

    Args:
        content: what the file holds.
        key: the entry that holds the weights, `"outer.inner"` for an entry of an entry; None to look under `KEYS`.
        origin: what to call the content in messages.
        call: how the caller asked for it.

    Raises:
        KeyError: no such entry.
        ValueError: no state dict of dense, finite tensors; names the entries that are one.
    """
    if key is not None and not isinstance(key, str):
        raise TypeError(f"key must be the name of an entry, got {key!r}")
    _check_mapping(content, origin)
    found = _default(content, origin, call) if key is None else _entry(content, key)
    _check_mapping(found, origin if key is None else f"{origin}, under {key!r},")
    _check_values(found, origin)
    if not found:
        raise ValueError(f"{origin} holds no weights: give a state dict that has some, a network's state_dict()")
    state = State(found)
    state._metadata = dict(getattr(found, "_metadata", {}))  # type: ignore[attr-defined]
    return state


def _check_mapping(value: Any, origin: str) -> None:
    if isinstance(value, LeftAside) and value.module:
        raise ValueError(
            f"{origin} holds a whole network, a {value.kind}, which only its own program can load: {STATE_DICT}"
        )
    if isinstance(value, nn.Module):
        raise ValueError(f"{origin} holds a whole network, a {type(value).__name__}: give its state_dict()")
    if not isinstance(value, Mapping):
        raise ValueError(f"{origin} holds a {described(value)}: expected a dict of names to tensors")


def _default(content: Mapping[Any, Any], origin: str, call: Call) -> Any:
    """The entry that the released scripts read, or the content itself."""
    held = [name for name in KEYS if isinstance(content.get(name), Mapping | LeftAside | nn.Module)]
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
    if whole := next((name for name, value in content.items() if isinstance(value, LeftAside) and value.module), None):
        _check_mapping(content[whole], f"{origin}, under {whole!r},")
    return content


def _entry(content: Mapping[Any, Any], key: str) -> Any:
    """The entry called `key`, or the one that it leads to entry by entry."""
    if key in content:
        return content[key]
    outer, _, inner = key.partition(".")
    if inner and isinstance(content.get(outer), Mapping):
        return _entry(content[outer], inner)
    raise KeyError(unknown("key", key, [*_states(content)]))


def _states(content: Mapping[Any, Any], depth: int = 3) -> Iterator[str]:
    """Where a file's content holds state dicts, such as `"ema"` and `"ema.shadow"`."""
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
    """Refuse what is no state dict of dense, finite tensors."""
    for name, value in state.items():
        if isinstance(name, str) and name.endswith("_extra_state"):
            continue
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{origin} has {described(value)} under {name!r}: expected names and tensors only; if it holds weights "
                "as well, read it by torch.load, and give a dict of those alone"
            )
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ValueError(f"{origin} has no plain dense tensor under {name!r}")
        if value.is_floating_point() and not (value.float() if value.itemsize == 1 else value).isfinite().all():
            raise ValueError(f"{origin} has values that are not finite under {name!r}: its training diverged")


# Names --------------------------------------------------------------------------------------------------------------


def under(state: State, prefix: str) -> State:
    """The weights whose names begin with a prefix, without it.

    Raises:
        KeyError: there are none; names the nearest prefix.

    Example:
        >>> from torch import nn
        >>> from lkd.models.state import under
        >>> list(under(nn.Sequential(nn.Linear(2, 3)).state_dict(), "0."))
        ['weight', 'bias']
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a text such as 'backbone.', got {prefix!r}")
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


def as_named_in(model: nn.Module, state: State) -> State:
    """The state dict by the model's names, whatever data parallelism or compilation added to the names of either."""
    own = {_WRAPPERS.sub("", name): name for name in model.state_dict()}
    plain = {name: _WRAPPERS.sub("", name) for name in state}
    if len(set(plain.values())) < len(plain):
        return state
    named = State((own.get(plain[name], plain[name]), value) for name, value in state.items())
    metadata = getattr(state, "_metadata", {})
    named._metadata = {_WRAPPERS.sub("", path).rstrip("."): noted for path, noted in metadata.items()}  # type: ignore[attr-defined]
    return named


def without_counters(state: State, model: nn.Module) -> State:
    """The state dict without `COUNTERS`, as far as the model has none of that name."""
    own = {name.rpartition(".")[2] for name in model.state_dict()}
    dropped = {name for name in state if (last := name.rpartition(".")[2]) in COUNTERS and last not in own}
    kept = State((name, value) for name, value in state.items() if name not in dropped)
    kept._metadata = getattr(state, "_metadata", {})  # type: ignore[attr-defined]
    return kept


def prefixes(state: Mapping[str, Tensor], at_least: int) -> list[str]:
    """The prefixes that so many names or more begin with, the most frequent first.

    Example:
        >>> from torch import nn
        >>> from lkd.models.state import prefixes
        >>> prefixes(nn.Sequential(nn.Linear(2, 3)).state_dict(), 2)
        ['0.']
    """
    counts: Counter[str] = Counter()
    for name in state:
        counts.update(name[: dot.end()] for dot in re.finditer(r"\.", name))
    return [prefix for prefix, count in counts.most_common() if count >= at_least]


def adapted(state: State, model: nn.Module) -> Mapping[str, Tensor]:
    """A state dict without projectors, as the loader of the model's architecture in timm, if any, adapts it."""
    own = model.state_dict().keys()
    kept = State((name, value) for name, value in state.items() if name in own or not name.startswith(PROJECTORS))
    kept._metadata = getattr(state, "_metadata", {})  # type: ignore[attr-defined]
    adapt = getattr(inspect.getmodule(type(model)), "checkpoint_filter_fn", None) if configuration(model) else None
    try:
        return adapt(kept, model) if adapt else kept
    except Exception:  # not of this architecture: the comparison of names says so
        return kept
