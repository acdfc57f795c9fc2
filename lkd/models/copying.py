"""Independent copies of models, or an error that names the attribute that cannot be copied."""

import copy
import functools
import gc
import io
import sys
import types
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_HOLDERS = (dict, list, tuple, set, frozenset, deque, functools.partial, types.MethodType)
"""Containers searched for references to the original, next to functions and weak references."""


def unwrap(model: nn.Module) -> nn.Module:
    """Remove the wrappers of `torch.compile`, `DataParallel` and `DistributedDataParallel` from a model.

    Example:
        >>> from torch import nn
        >>> from lkd.models.copying import unwrap
        >>> unwrap(nn.DataParallel(nn.Linear(2, 3)))
        Linear(in_features=2, out_features=3, bias=True)
    """
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrap(model.module)
    dynamo = sys.modules.get("torch._dynamo")  # importing it takes seconds; before that, no model is compiled
    if dynamo and isinstance(model, dynamo.OptimizedModule):
        return unwrap(model._orig_mod)
    return model


def copy_to_cpu(model: nn.Module, role: str) -> nn.Module:
    """An independent copy of a model on the CPU, with equal outputs; the original is unchanged.

    Gradients and the wrappers of `torch.compile` and data parallelism are dropped, also in submodules. Hooks of modules
    and parameters are kept.

    Args:
        model: any module, including scripted ones.
        role: name in error messages, "student" or "teacher".

    Raises:
        TypeError: not a module.
        ValueError: the model cannot be copied; the message names the attribute and the fix.

    Example:
        >>> from torch import nn
        >>> from lkd.models.copying import copy_to_cpu
        >>> copy_to_cpu(nn.Linear(2, 3), "student")
        Linear(in_features=2, out_features=3, bias=True)
    """
    return _on_cpu(copy_model(model, role))


def copy_model(model: nn.Module, role: str) -> nn.Module:
    """As `copy_to_cpu`, on the original's devices.

    Raises:
        TypeError, ValueError: as in `copy_to_cpu`.

    Example:
        >>> from torch import nn
        >>> from lkd.models.copying import copy_model
        >>> copy_model(nn.Linear(2, 3), "student").weight.device
        device(type='cpu')
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"{role} must be an nn.Module, got {type(model).__name__}")
    model = unwrap(model)
    check_has_weights(model, role)
    memo = _computed_weights(model, role)
    try:
        for module in reversed(_replaced(model)):
            memo[id(module)] = (
                _reloaded(module) if isinstance(module, torch.jit.ScriptModule) else copy.deepcopy(unwrap(module), memo)
            )
        made = copy.deepcopy(model, memo)
    except Exception as error:  # custom classes can raise anything
        raise ValueError(f"{role} cannot be copied: {_culprit(model, error)}") from error
    _check_equal(model, made, role)
    _check_independent(model, made, role)
    _keep_parameter_hooks(model, made)
    return made


def _replaced(model: nn.Module) -> list[nn.Module]:
    """Wrappers and outermost scripted modules, which `copy.deepcopy` cannot copy."""
    scripted = [module for module in model.modules() if isinstance(module, torch.jit.ScriptModule)]
    inside = {id(part) for module in scripted for part in module.modules() if part is not module}
    return [
        module
        for module in model.modules()
        if id(module) not in inside and (isinstance(module, torch.jit.ScriptModule) or unwrap(module) is not module)
    ]


def _reloaded(module: torch.jit.ScriptModule) -> nn.Module:
    """Copy a scripted module by saving and loading; optimizers refuse the weights that `copy.deepcopy` makes."""
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # from torch.jit itself
        torch.jit.save(module, file)
        file.seek(0)
        made: nn.Module = torch.jit.load(file)
    made._forward_hooks.update(module._forward_hooks)
    made._forward_pre_hooks.update(module._forward_pre_hooks)
    return made


def _on_cpu(model: nn.Module) -> nn.Module:
    for module in model.to("cpu").modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                vars(module)[name] = value.cpu()
    return model


# Models that cannot be copied ---------------------------------------------------------------------------------------


def _tensors(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def check_has_weights(model: nn.Module, role: str) -> None:
    """Raise a ValueError for weights on the meta device, and for lazy layers before their first batch.

    Example:
        >>> from torch import nn
        >>> from lkd.models.copying import check_has_weights
        >>> check_has_weights(nn.LazyLinear(3), "student")
        Traceback (most recent call last):
        ValueError: student has an uninitialised lazy weight, 'weight': run it on one batch first
    """
    for name, tensor in _tensors(model):
        if is_lazy(tensor):
            raise ValueError(f"{role} has an uninitialised lazy weight, {name!r}: run it on one batch first")
        if tensor.is_meta:
            raise ValueError(f"{role} has a weight on the meta device, {name!r}: create it on the CPU, with values")


def _computed_weights(model: nn.Module, role: str) -> dict[int, Any]:
    """Copies of the weights that PyTorch's own hooks compute before each pass, as in weight norm and pruning.

    Raises:
        ValueError: any other tensor attribute that is part of an autograd graph.
    """
    memo: dict[int, Any] = {}
    for path, module in model.named_modules():
        own_hooks = any(
            type(hook).__module__.startswith("torch.nn.utils.") for hook in module._forward_pre_hooks.values()
        )
        for name, value in [*vars(module).items(), *module._buffers.items()]:
            if not isinstance(value, Tensor) or value.is_leaf:
                continue
            if not own_hooks:
                raise ValueError(
                    f"{role} cannot be copied: its attribute {_path(path, name)!r} is a tensor that was computed with "
                    "gradients. If a forward pass stored it, run one under torch.no_grad() or set it to None; if "
                    "__init__ computes it, compute it in forward, or it is not trained"
                )
            memo[id(value)] = value.detach().clone()
    return memo


def _culprit(model: nn.Module, error: Exception) -> str:
    """The attribute that cannot be copied, with the fix."""
    themselves = {id(module): module for module in model.modules()}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name in ("_modules", "_parameters"):
                continue
            try:
                copy.deepcopy(value, dict(themselves))
            except Exception as cause:  # as above
                return (
                    f"its attribute {_path(path, name)!r} is a {type(value).__name__}, which Python cannot copy "
                    f"({cause}): set it to None before you pass the model, or create it in forward"
                )
    return f"{_copier(model)} cannot be copied ({error}): fix its __deepcopy__ or __reduce_ex__"


def _copier(model: nn.Module) -> str:
    """The first module with a custom `__deepcopy__`, or else the model."""
    for path, module in model.named_modules():
        if hasattr(module, "__deepcopy__") and not isinstance(module, torch.jit.ScriptModule):
            return f"its module {path!r}, a {type(module).__name__}," if path else f"a {type(module).__name__}"
    return f"a {type(model).__name__}"


def _path(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


# Checks of a copy ---------------------------------------------------------------------------------------------------


def _check_equal(model: nn.Module, made: Any, role: str) -> None:
    """Refuse a copy with other weights or another mode, made by a custom `__deepcopy__`."""
    if isinstance(made, nn.Module):
        theirs, ours = dict(_tensors(model)), dict(_tensors(made))
        plain = {name.replace("_orig_mod.", "").replace("module.", "") for name in theirs}
        equal = len(ours) == len(plain) and all(map(_identical, theirs.values(), ours.values()))
        if equal and getattr(made, "training", None) == getattr(model, "training", None):
            return
    raise ValueError(
        f"{role} cannot be copied: {_copier(model)} gives no copy with equal weights in the same mode: fix or "
        "remove its __deepcopy__"
    )


def _identical(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype or one.requires_grad != other.requires_grad:
        return False
    if one.layout != torch.strided or one.is_quantized:
        return True
    return bool(((one == other) | (one != one)).all())


def _check_independent(model: nn.Module, made: nn.Module, role: str) -> None:
    """Refuse a copy that shares modules or weights with the original."""
    original = {id(part) for part in (*model.modules(), *(tensor for _, tensor in _tensors(model)))}
    memory = {tensor.data_ptr() for _, tensor in _tensors(model)} - {0}
    copies = {id(module) for module in made.modules()}
    for name, tensor in _tensors(made):
        if tensor.data_ptr() in memory:
            raise ValueError(
                f"{role} cannot be copied: {_copier(model)} gives a copy that shares the weight {name!r} with it: "
                "fix or remove its __deepcopy__"
            )
    for path, module in made.named_modules():
        for name, value in vars(module).items():
            if _reaches(value, original, copies):
                raise ValueError(
                    f"{role} cannot be copied: its attribute {_path(path, name)!r} refers to the model itself, as a "
                    "lambda that uses self or a weak reference does, and a copy would use the original: make it a "
                    "method of the class"
                )


def _reaches(value: Any, targets: set[int], known: set[int]) -> bool:
    """Whether a value refers to a target, through containers, closures and weak references."""
    left, seen = [value], set(known)
    while left:
        if id(value := left.pop()) in targets:
            return True
        if id(value) not in seen:
            seen.add(id(value))
            left.extend(_referents(value))
    return False


def _referents(value: Any) -> Iterator[Any]:
    if isinstance(value, weakref.ref):
        yield value()
    elif isinstance(value, weakref.WeakValueDictionary):
        yield from value.values()
    elif isinstance(value, weakref.WeakKeyDictionary | weakref.WeakSet):
        yield from value
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            yield from gc.get_referents(cell)
        yield from (value.__defaults__, value.__kwdefaults__, vars(value))
    elif isinstance(value, _HOLDERS):
        yield from gc.get_referents(value)
    elif isinstance(value, nn.Module):
        yield vars(value)


def _keep_parameter_hooks(model: nn.Module, made: nn.Module) -> None:
    """Restore the parameters' attributes and hooks that `copy.deepcopy` drops, and clear gradients."""
    for ours, theirs in zip(made.parameters(), model.parameters(), strict=True):
        ours.grad = None
        vars(ours).update(vars(theirs))
        for hook in (theirs._backward_hooks or {}).values() if ours.requires_grad else ():
            ours.register_hook(hook)
        for hook in (theirs._post_accumulate_grad_hooks or {}).values() if ours.requires_grad else ():
            ours.register_post_accumulate_grad_hook(hook)
