"""Matching of a state dict's keys with a model's: drop a shared prefix, or suggest one in the error."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from lkd.models.key_mismatch import check_keys, key_differences
from lkd.models.state_dict import (
    Call,
    State,
    apply_timm_filter,
    common_prefixes,
    drop_counters,
    rename_like,
    select_prefix,
)


def match_keys(state: State, model: nn.Module, origin: str, call: Call) -> Mapping[str, Tensor]:
    """Rename the keys of a state dict to those of a model, for example without the prefix of a wrapper.

    Args:
        origin: name of the state dict in error messages.
        call: the user's call, for suggestions in error messages.

    Raises:
        ValueError: keys or shapes do not match; the message suggests a prefix that would make them match, or lists the
            differences.

    Example:
        >>> from torch import nn
        >>> from lkd.models.key_matching import match_keys
        >>> from lkd.models.state_dict import Call
        >>> wrapped = nn.Sequential(nn.Linear(2, 3)).state_dict()
        >>> list(match_keys(wrapped, nn.Linear(2, 3), "the state dict", Call("state_dict")))
        ['weight', 'bias']
    """
    named = drop_counters(rename_like(model, state), model)
    forms = {prefix: apply_timm_filter(form, model) for prefix, form in _forms(named, model)}
    fitting = [prefix for prefix, form in forms.items() if not key_differences(form, model)]
    if shared := [prefix for prefix in fitting if all(name.startswith(prefix) for name in named)]:
        return forms[shared[0]]
    if fitting:
        raise ValueError(
            f"{origin} holds more than a {type(model).__name__}; the entries under {fitting[0]!r} fit: "
            f"{' or '.join(call(prefix=prefix) for prefix in fitting[:2])}"
        )
    if part := _fitting_part(named, model):
        raise ValueError(f"{origin} fits a submodule of {type(model).__name__}, not the whole: {call(part)}")
    own = model.state_dict().keys()
    closest = max(forms, key=lambda prefix: len(forms[prefix].keys() & own))
    check_keys(forms[closest], model, f"{origin}, under prefix {closest!r}," if closest else origin)
    return forms[closest]


def _forms(state: State, model: nn.Module) -> Iterator[tuple[str, State]]:
    """The state dict, and its part under each prefix that has at least half as many names as the model."""
    yield "", state
    for prefix in common_prefixes(state, max(1, len(model.state_dict()) // 2)):
        yield prefix, select_prefix(state, prefix)


def _fitting_part(state: State, model: nn.Module) -> str:
    """Expression for a large submodule that a state dict fits, with over half of the model's weights; "" if none."""
    size = len(model.state_dict())
    for name, part in model.named_modules():
        if (
            name
            and len(own := part.state_dict()) > size / 2
            and own.keys() == state.keys()
            and not key_differences(state, part)
        ):
            plain = all(step.isidentifier() for step in name.split("."))
            return f"model.{name}" if plain else f"model.get_submodule({name!r})"
    return ""
