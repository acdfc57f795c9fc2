"""A caller's global state has no effect on a run, and is restored afterwards."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import optimizer as optimizers
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

import lkd
from lkd import Recipe
from lkd.erf import contribution_map
from lkd.runs.store import Run, Store
from lkd.util.torch_defaults import deterministic_algorithms, float32_precision, torch_defaults

RECIPE = Recipe(data="digits", student="mini_resnet", train_images=64)


@contextmanager
def dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)


@contextmanager
def precision() -> Iterator[None]:
    torch.set_float32_matmul_precision("medium")
    yield
    assert torch.get_float32_matmul_precision() == "medium"
    torch.set_float32_matmul_precision("highest")


@contextmanager
def hook() -> Iterator[None]:
    handle = nn.modules.module.register_module_forward_hook(lambda module, given, output: 2 * output)
    yield
    assert (nn.Identity()(torch.ones(1)) == 2).all()
    handle.remove()


@contextmanager
def optimizer_hook() -> Iterator[None]:
    handle = register_optimizer_step_pre_hook(lambda optimizer, *_: optimizer.zero_grad())
    yield
    assert len(optimizers._global_optimizer_pre_hooks) == 1
    handle.remove()


class Doubled(TorchFunctionMode):
    """Doubles the output of ReLU."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), settings: Any = None) -> Any:
        result = function(*arguments, **(settings or {}))
        return 2 * result if function is torch.nn.functional.relu else result


STATES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "double precision": dtype,
    "another device": lambda: torch.device("meta"),
    "deterministic algorithms": deterministic,
    "a lower precision": precision,
    "a hook on all modules": hook,
    "a hook on all optimizers": optimizer_hook,
    "a mode that changes functions": Doubled,
    "hooks on saved tensors": lambda: saved_tensors_hooks(lambda tensor: tensor, lambda tensor: 0 * tensor),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return lkd.run(RECIPE, store=Store(tmp_path_factory.mktemp("store")))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_a_run_is_the_same_whatever_its_caller_has_set(
    state: Callable[[], AbstractContextManager[object]], undisturbed: Run, tmp_path: Path
) -> None:
    with state():
        run = lkd.run(RECIPE, store=Store(tmp_path))
        trained = run.student.state_dict()
    assert run.metrics == undisturbed.metrics
    for name, weight in undisturbed.student.state_dict().items():
        torch.testing.assert_close(trained[name], weight, rtol=0, atol=0)


def test_a_contribution_map_needs_no_gradients_of_its_caller() -> None:
    model, images = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1)), torch.rand(2, 1, 8, 8)
    expected = contribution_map(model, images, layer="0")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert (contribution_map(model, images, layer="0") == expected).all()


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="before PyTorch 2.9")
def test_float32_has_full_precision_on_a_gpu_in_products_and_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    backends: Any = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)

    def precision() -> list[str]:
        return [part.fp32_precision for part in parts]

    before = precision()
    with torch_defaults():
        assert precision() == ["ieee"] * 3
    assert precision() == before


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="before PyTorch 2.9")
def test_a_precision_that_follows_another_one_still_does_afterwards() -> None:
    """In a new process: once set, a precision follows no other one."""
    script = """
import torch
from lkd.util.torch_defaults import float32_precision, torch_defaults
torch.cuda.is_available = lambda: True
with torch_defaults(), float32_precision("high"):
    pass
torch.backends.fp32_precision = "ieee"
print(torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ieee", "ieee"]


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="before PyTorch 2.9")
def test_settings_of_a_run_are_kept_in_its_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    backends: Any = torch.backends
    with float32_precision("high"), deterministic_algorithms(True), torch_defaults():
        assert backends.cudnn.conv.fp32_precision == backends.cuda.matmul.fp32_precision == "tf32"
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_state_is_restored_after_an_error() -> None:
    with torch.no_grad():
        with pytest.raises(KeyError), torch_defaults():
            raise KeyError
        assert not torch.is_grad_enabled()
