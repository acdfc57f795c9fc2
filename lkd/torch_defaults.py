"""PyTorch's global state as it is when Python starts, whatever a caller has set."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as modules

_GLOBAL_HOOKS = (
    "_global_forward_pre_hooks", "_global_forward_hooks", "_global_backward_pre_hooks", "_global_backward_hooks",
)  # fmt: skip


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Within this block, or a function that it decorates, the state that a caller left behind has no effect.

    That is: gradient and inference mode, autocast, default dtype and device, deterministic algorithms, the precision of
    float32 products, hooks on all modules, and NumPy's treatment of errors. Afterwards it is as it was.

    Example:
        >>> import torch
        >>> from lkd.torch_defaults import torch_defaults
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
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        _set_default_dtype(stack)
        _set_algorithms(stack)
        _set_precision(stack)
        _take_global_hooks(stack)
        yield


def _set_default_dtype(stack: ExitStack) -> None:
    if (given := torch.get_default_dtype()) != torch.float32:
        stack.callback(torch.set_default_dtype, given)
        torch.set_default_dtype(torch.float32)


def _set_algorithms(stack: ExitStack) -> None:
    if torch.are_deterministic_algorithms_enabled():
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        stack.callback(torch.use_deterministic_algorithms, True, warn_only=warn_only)
        torch.use_deterministic_algorithms(False)


def _set_precision(stack: ExitStack) -> None:
    """Products in full float32; a backend that has no setting of its own follows the one before it."""
    if not hasattr(torch.backends, "fp32_precision"):  # before PyTorch 2.9
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        return
    backends: Any = torch.backends
    for backend in (backends, backends.cuda.matmul, backends.mkldnn, backends.mkldnn.matmul, backends.mkldnn.conv):
        if (given := backend.fp32_precision) not in ("none", "ieee"):
            stack.callback(setattr, backend, "fp32_precision", given)
            backend.fp32_precision = "ieee"


def _take_global_hooks(stack: ExitStack) -> None:
    for name in _GLOBAL_HOOKS:
        if hooks := dict(getattr(modules, name)):
            stack.callback(getattr(modules, name).update, hooks)
            getattr(modules, name).clear()
