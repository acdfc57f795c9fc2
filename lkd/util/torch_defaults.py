"""Context managers for PyTorch's global state: defaults, precision, determinism, random state."""

import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as modules
from torch.nn.utils import parametrize
from torch.optim import optimizer as optimizers

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Environment variable with which cuBLAS is deterministic."""

_CHOSEN: ContextVar[frozenset[str]] = ContextVar("chosen", default=frozenset())
"""Settings that a run has chosen ("precision", "algorithms"), which `torch_defaults` keeps within it."""

_GLOBAL_HOOKS = (
    *(getattr(modules, f"_global_{kind}_hooks") for kind in ("forward_pre", "forward", "backward_pre", "backward")),
    *(getattr(optimizers, f"_global_optimizer_{kind}_hooks") for kind in ("pre", "post")),
)


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Reset global state within the block or decorated function, and restore it afterwards.

    Resets gradient and inference mode, autocast, default dtype and device, function modes, deterministic algorithms,
    float32 precision of products and convolutions, global hooks on modules, optimizers and saved tensors, the
    parametrization cache, and NumPy's error handling. The random states of Python and NumPy are only restored. Within
    `float32_precision` and `deterministic_algorithms`, their settings are kept.

    Example:
        >>> import torch
        >>> from lkd.util.torch_defaults import torch_defaults
        >>> with torch.no_grad(), torch_defaults():
        ...     torch.is_grad_enabled()
        True
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        _take_modes(stack)
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        _set_default_dtype(stack)
        _set_algorithms(stack)
        _set_precision(stack)
        _take_global_hooks(stack)
        yield


@contextmanager
def float32_precision(name: str) -> Iterator[None]:
    """Precision of float32 matrix products and convolutions on a GPU within the block.

    Args:
        name: "highest" for float32, "high" for TF32, in which factors have 10 bits after the point.

    Example:
        >>> import torch
        >>> from lkd.util.torch_defaults import float32_precision
        >>> with float32_precision("high"):
        ...     torch.backends.cuda.matmul.fp32_precision
        'tf32'
    """
    with ExitStack() as stack:
        _set_gpu_precision(stack, tf32={"highest": False, "high": True}[name])
        _choose(stack, "precision")
        yield


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Only deterministic algorithms within the block, if wanted: equal bits in every run on one kind of GPU.

    Raises:
        ValueError: cuBLAS was initialised without the workspace that it needs; names the variable to set.
    """
    if not wanted:
        yield
        return
    if torch.cuda.is_available() and os.environ.get(_WORKSPACE) not in (":4096:8", ":16:8"):
        if torch.cuda.is_initialized():
            raise ValueError(
                f"deterministic=True needs {_WORKSPACE}=:4096:8 in the environment: set it before the start"
            )
        os.environ[_WORKSPACE] = ":4096:8"
    with ExitStack() as stack:
        stack.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
        stack.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        _choose(stack, "algorithms")
        yield


def fork_random_state() -> AbstractContextManager[None]:
    """Restore PyTorch's random states on the CPU and the current GPU when the block ends."""
    return torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else [])


def _choose(stack: ExitStack, setting: str) -> None:
    """Let `torch_defaults` keep a setting until the stack ends."""
    stack.callback(_CHOSEN.reset, _CHOSEN.set(_CHOSEN.get() | {setting}))


def _set_gpu_precision(stack: ExitStack, tf32: bool) -> None:
    """Set the precision of float32 products and convolutions on a GPU; a part that follows another one still does."""
    backends: Any = torch.backends
    value: bool | str
    name, value, parts = "allow_tf32", tf32, [backends.cuda.matmul, backends.cudnn]
    if hasattr(backends, "fp32_precision"):  # since PyTorch 2.9
        name, value = "fp32_precision", "tf32" if tf32 else "ieee"
        parts += [backends.cudnn.conv, backends.cudnn.rnn]
    for part in parts:
        if (given := getattr(part, name)) != value:
            stack.callback(setattr, part, name, given)
            setattr(part, name, value)


def _set_default_dtype(stack: ExitStack) -> None:
    if (given := torch.get_default_dtype()) != torch.float32:
        stack.callback(torch.set_default_dtype, given)
        torch.set_default_dtype(torch.float32)


def _set_algorithms(stack: ExitStack) -> None:
    if torch.are_deterministic_algorithms_enabled() and "algorithms" not in _CHOSEN.get():
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        stack.callback(torch.use_deterministic_algorithms, True, warn_only=warn_only)
        torch.use_deterministic_algorithms(False)


def _set_precision(stack: ExitStack) -> None:
    """Set full float32 precision; a backend without its own setting follows the one before it."""
    if "precision" in _CHOSEN.get():
        return
    if torch.cuda.is_available():
        _set_gpu_precision(stack, tf32=False)
    if not hasattr(torch.backends, "fp32_precision"):  # before PyTorch 2.9
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        return
    backends: Any = torch.backends
    for backend in (backends, backends.mkldnn, backends.mkldnn.matmul, backends.mkldnn.conv):
        if (given := backend.fp32_precision) not in ("none", "ieee"):
            stack.callback(setattr, backend, "fp32_precision", given)
            backend.fp32_precision = "ieee"


def _take_global_hooks(stack: ExitStack) -> None:
    for hooks in _GLOBAL_HOOKS:
        if hooks:
            stack.callback(hooks.update, dict(hooks))
            hooks.clear()


def _take_modes(stack: ExitStack) -> None:
    """Remove function modes (a default device is one), hooks on saved tensors, and the parametrization cache."""
    while torch._C._len_torch_function_stack():
        stack.callback(torch._C._push_on_torch_function_stack, torch._C._pop_torch_function_stack())
    autograd: Any = torch._C._autograd
    while saved := autograd._top_saved_tensors_default_hooks(True):
        autograd._pop_saved_tensors_default_hooks()
        stack.callback(autograd._push_saved_tensors_default_hooks, *saved)
    if parametrize._cache_enabled:
        stack.callback(setattr, parametrize, "_cache_enabled", parametrize._cache_enabled)
        parametrize._cache_enabled = 0
