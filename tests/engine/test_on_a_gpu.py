"""Behaviour on a GPU, checked without one by stand-ins; about 3 seconds."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lkd
from lkd import Recipe
from lkd.data import load
from lkd.engine.accelerators import evaluation_precision
from lkd.engine.loss_check import READ_INTERVAL, LossCheck
from lkd.engine.optimizer import make_optimizer
from lkd.engine.teacher import FrozenTeacher
from lkd.study import measure
from lkd.util.torch_defaults import deterministic_algorithms, float32_precision

GPU = torch.device("cuda")
CPU = torch.device("cpu")


class Placed(nn.Module):
    """A network that records its device, and takes images only there."""

    def __init__(self, place: str):
        super().__init__()
        self.head, self.place = nn.Linear(32 * 32, 10), place

    def to(self, device: Any = None, *rest: Any, **more: Any) -> "Placed":
        if device is not None:
            self.place = str(device)
        return self

    def forward(self, images: Tensor) -> Tensor:
        assert self.place == "cpu", "images of the CPU for a network on the GPU"
        return self.head(images.flatten(1))


def test_a_teacher_on_a_gpu_is_copied_to_the_cpu_and_stays_where_it_is() -> None:
    teacher = Placed("cuda")
    frozen = FrozenTeacher(teacher, load("digits"))
    assert frozen.model.place == "cpu" and teacher.place == "cuda"


# Losses -------------------------------------------------------------------------------------------------------------


def losses(check: LossCheck, values: list[float]) -> None:
    for number, value in enumerate(values):
        check({"total": torch.tensor(value), "kd": torch.tensor(2 * value)}, lambda number=number: f"step {number}")


def test_on_a_cpu_each_loss_is_read_and_the_first_bad_one_is_named() -> None:
    with pytest.raises(FloatingPointError, match=r"^the loss is not finite in step 2: total = inf, kd = inf$"):
        losses(LossCheck(CPU), [1.0, 2.0, math.inf, 1.0])


def test_on_a_gpu_losses_are_read_every_few_steps_and_the_first_bad_one_is_named() -> None:
    check = LossCheck(GPU)
    losses(check, [1.0] * 3 + [math.nan] + [1.0] * (READ_INTERVAL - 5))
    with pytest.raises(FloatingPointError, match=r"^the loss is not finite in step 3: total = nan, kd = nan$"):
        losses(check, [math.nan])


def test_a_look_reads_what_is_left() -> None:
    check = LossCheck(GPU)
    losses(check, [1.0, math.nan, 1.0])
    with pytest.raises(FloatingPointError, match="in step 1: total = nan"):
        check.flush()
    check.flush()


@pytest.mark.parametrize("device", [CPU, GPU])
def test_in_fp16_single_overflows_pass_and_a_series_raises(device: torch.device) -> None:
    check = LossCheck(device, patience=3)
    losses(check, [1.0, math.inf, math.inf, 1.0, math.inf, 1.0])
    losses(check, [math.inf])
    check.flush()
    with pytest.raises(FloatingPointError, match="not finite in step 0: total = inf, kd = inf; 3 in a row"):
        losses(check, [math.inf] * 2 + [1.0] * READ_INTERVAL)


# Settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="before PyTorch 2.9")
@pytest.mark.parametrize(("name", "tf32"), [("highest", False), ("high", True)])
def test_one_setting_is_for_products_and_convolutions_and_is_restored(name: str, tf32: bool) -> None:
    backends: Any = torch.backends
    parts = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn
    before = [part.fp32_precision for part in parts]
    with float32_precision(name):
        assert {part.fp32_precision for part in parts} == {"tf32" if tf32 else "ieee"}
    assert [part.fp32_precision for part in parts] == before
    assert torch.get_float32_matmul_precision() == "highest" and backends.cudnn.allow_tf32 is True


def test_the_precision_of_a_run_is_recorded(store: Any) -> None:
    options = lkd.Options(matmul="high", deterministic=True)
    run = lkd.run(Recipe(data="digits", student="mini_resnet", train_images=64, epochs=1), store=store, options=options)
    assert run.provenance["options"]["matmul"] == "high" and run.provenance["options"]["deterministic"] is True
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(KeyError, match="unknown matmul 'hihg': did you mean 'high'"):
        lkd.Options(matmul="hihg")


def test_determinism_that_comes_too_late_for_cublas_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match="CUBLAS_WORKSPACE_CONFIG=:4096:8"), deterministic_algorithms(True):
        pytest.fail("not refused")
    with deterministic_algorithms(False):
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("optimizer", "arguments", "fused"),
    [("adamw", {}, True), ("sgd", {}, True), ("lamb", {}, False), ("adamw", {"foreach": True}, False)],
)
def test_an_optimizer_of_pytorch_is_fused_on_a_gpu(
    optimizer: str, arguments: dict[str, Any], fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(data="digits", student="mini_resnet", optimizer=optimizer, optimizer_args=arguments)
    model = nn.Linear(3, 2)
    assert not make_optimizer(recipe, model).defaults.get("fused")
    monkeypatch.setattr("lkd.engine.optimizer.device_of", lambda model: GPU)
    assert bool(make_optimizer(recipe, model).defaults.get("fused")) is fused


def test_evaluation_has_the_precision_of_training_on_a_gpu_only() -> None:
    accelerator: Any = SimpleNamespace(autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    for device, enabled in ((GPU, True), (CPU, False)):
        with evaluation_precision(device, accelerator):
            assert torch.is_autocast_enabled("cpu") is enabled
    with evaluation_precision(GPU, None):
        assert not torch.is_autocast_enabled("cpu")


def test_more_processes_than_gpus_are_refused_before_any_work(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"num_processes is 2, but this machine has 1 GPU\(s\): give at most 1"):
        lkd.run(Recipe(data="digits", student="mini_resnet"), store=store, num_processes=2)
    assert not (store.folder / "runs").exists()


# Measurements -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("available", [False, True])
def test_measurements_are_made_on_the_gpu_and_the_student_comes_back(
    available: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    run: Any = SimpleNamespace(student=Placed("cpu"))
    with pytest.raises(ZeroDivisionError), measure._on_gpu(run) as student:
        assert student.place == ("cuda" if available else "cpu")
        raise ZeroDivisionError
    assert run.student.place == "cpu"
