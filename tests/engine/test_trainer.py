"""The training loop, step by step, against plain PyTorch."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from short import ALONE, TAUGHT, TEACHER, equal, same
from torch import nn

import lkd
from lkd import Recipe
from lkd.data import Augmentation, load, subset
from lkd.engine import Options, optimizer
from lkd.engine.accelerators import make_accelerator
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.run import execute
from lkd.engine.setup import RunSetup
from lkd.engine.trainer import Trainer
from lkd.models import fold_batchnorm
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = replace(ALONE, batch_size=32)
"""Two epochs of four steps."""
Watch = Callable[[torch.optim.Optimizer], Any]


@pytest.fixture
def at_each_step(monkeypatch: pytest.MonkeyPatch, store: Store) -> Callable[[Recipe, Watch], list[Any]]:
    """Carries out a recipe and collects what a function sees in the optimizer right before each of its steps."""

    def collected(recipe: Recipe, watch: Watch) -> list[Any]:
        seen, make = [], optimizer.create_optimizer_v2

        def watched(*arguments: Any, **settings: Any) -> torch.optim.Optimizer:
            made = make(*arguments, **settings)
            made.register_step_pre_hook(lambda *_: seen.append(watch(made)))
            return made

        with monkeypatch.context() as patch:
            patch.setattr(optimizer, "create_optimizer_v2", watched)
            lkd.run(recipe, store=store)
        return seen

    return collected


def parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def expected_lr(recipe: Recipe, total: int, step: int) -> float:
    """From 0 in a straight line over the share `warmup` of all steps, then down to 0 by half a cosine."""
    warmup = min(round(recipe.warmup * total), total - 1)
    if step < warmup:
        return recipe.lr * step / warmup
    return recipe.lr * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


# One rule at a time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.4, 1.0])
def test_the_learning_rate_rises_in_a_line_and_falls_by_a_cosine(warmup: float, at_each_step: Any) -> None:
    recipe = replace(STEPS, warmup=warmup, lr=3e-3)
    rates = at_each_step(recipe, lambda optimizer: {group["lr"] for group in optimizer.param_groups})
    assert all(len(of_step) == 1 for of_step in rates)
    assert [rate for (rate,) in rates] == pytest.approx([expected_lr(recipe, 8, step) for step in range(8)])


def test_weights_decay_but_not_biases_norms_and_other_vectors(at_each_step: Any) -> None:
    def decays(optimizer: torch.optim.Optimizer) -> set[tuple[bool, float]]:
        groups = optimizer.param_groups
        return {(p.ndim > 1, group["weight_decay"]) for group in groups for p in group["params"]}

    assert at_each_step(replace(STEPS, weight_decay=0.3), decays)[0] == {(True, 0.3), (False, 0.0)}


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
def test_the_optimizer_is_the_one_named(name: str, at_each_step: Any) -> None:
    names = at_each_step(replace(STEPS, optimizer=name), lambda made: type(made).__name__.lower())
    assert names == [name] * 8


def test_the_optimizer_has_the_arguments_given(at_each_step: Any) -> None:
    betas = at_each_step(replace(STEPS, optimizer_args={"betas": [0.7, 0.8]}), lambda made: made.defaults["betas"])
    assert [tuple(pair) for pair in betas] == [(0.7, 0.8)] * 8


@pytest.mark.parametrize(
    ("schedule", "arguments", "shares"),
    [
        ("constant", {}, [1] * 8),
        ("step", {"decay_epochs": 1, "decay_rate": 0.1}, [1] * 4 + [0.1] * 4),
        ("step", {"decay_epochs": 0.5}, [1] * 2 + [0.1] * 2 + [0.01] * 2 + [0.001] * 2),
        ("step", {}, [1] * 8),
        ("multistep", {}, [1] * 8),
        ("poly", {"decay_rate": 1.0, "min_lr": 0.0}, [1 - step / 8 for step in range(8)]),
    ],
)
def test_the_learning_rate_follows_the_schedule_named(
    schedule: str, arguments: dict[str, Any], shares: list[float], at_each_step: Any
) -> None:
    recipe = replace(STEPS, warmup=0.0, lr=2e-3, schedule=schedule, schedule_args=arguments)
    rates = at_each_step(recipe, lambda made: made.param_groups[0]["lr"])
    assert rates == pytest.approx([2e-3 * share for share in shares])


def test_the_lowest_learning_rate_is_the_one_given(at_each_step: Any) -> None:
    recipe = replace(STEPS, warmup=0.0, lr=2e-3, schedule_args={"min_lr": 1e-3})
    assert min(at_each_step(recipe, lambda made: made.param_groups[0]["lr"])) > 1e-3


@pytest.mark.slow
def test_what_the_student_keeps_from_decaying_does_not_decay(at_each_step: Any) -> None:
    tokens = timm.create_model("mini_vit", in_chans=1).no_weight_decay()
    assert "pos_embed" in tokens

    def decaying_tables(made: torch.optim.Optimizer) -> int:
        return sum(p.ndim == 3 for group in made.param_groups for p in group["params"] if group["weight_decay"])

    assert set(at_each_step(replace(STEPS, student="mini_vit", weight_decay=0.1), decaying_tables)) == {0}


# Ways that do not change what a run means ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_batch_in_parts_gives_the_gradient_of_the_whole_batch(at_each_step: Any) -> None:
    def gradient(made: torch.optim.Optimizer) -> torch.Tensor:
        return torch.cat([p.grad.flatten() for p in parameters(made)])

    recipe = replace(TAUGHT, batch_size=32, student="mini_vit", clip=None)
    whole = at_each_step(recipe, gradient)
    parted = at_each_step(replace(recipe, accumulation=4), gradient)
    whole, parted = whole[-8:], parted[-8:]
    torch.testing.assert_close(parted[0], whole[0], rtol=1e-3, atol=1e-6)
    for other, one in zip(parted, whole, strict=True):
        torch.testing.assert_close(other, one, rtol=0.05, atol=0.01 * one.abs().max().item())


@pytest.mark.slow
def test_channels_last_changes_rounding_at_most(tmp_path: Path) -> None:
    recipe = replace(TAUGHT, batch_size=32)
    plain = lkd.run(recipe, store=Store(tmp_path / "plain"))
    other = lkd.run(recipe, store=Store(tmp_path / "other"), options=Options(channels_last=True))
    assert other.recipe.run_id == plain.recipe.run_id
    assert other.provenance["options"] != plain.provenance["options"]
    assert other.history.train_total.tolist() == pytest.approx(plain.history.train_total.tolist(), rel=1e-3)


@pytest.mark.slow
def test_compiled_networks_train_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **k: compile_(*a, **{**k, "backend": "aot_eager"}))
    recipe = replace(TAUGHT, batch_size=32)
    plain = lkd.run(recipe, store=Store(tmp_path / "plain"))
    both = Options(compile_student=True, compile_teacher=True)
    other = lkd.run(recipe, store=Store(tmp_path / "other"), options=both)
    assert other.history.train_total.tolist() == pytest.approx(plain.history.train_total.tolist(), rel=1e-3)
    assert other.student.state_dict().keys() == plain.student.state_dict().keys()


# Features -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("student", ["mini_resnet", "mini_swin", "mini_vit"])
@pytest.mark.parametrize("teacher", ["mini_slak", "mini_cswin", "mini_vit"])
def test_features_of_any_network_teach_any_other_and_projectors_are_no_part_of_it(
    student: str, teacher: str, store: Store
) -> None:
    recipe = replace(
        TAUGHT,
        student=student,
        teacher=replace(TEACHER, student=teacher, train_images=64),
        objective="fd",
        objective_args={"stages": 2, "normalize": "channels"},
        train_images=64,
        epochs=1,
    )
    run = lkd.run(recipe, store=store)
    assert {"train_fd", "train_label"} <= set(run.history)
    assert run.student.state_dict().keys() == timm.create_model(student, in_chans=1).state_dict().keys()


def test_projectors_learn(store: Store) -> None:
    lkd.run(TEACHER, store=store)
    recipe = replace(TAUGHT, batch_size=32, objective="nkd+fd", objective_args={"weight": 10.0})
    setting, teacher = RunSetup(recipe, {}), lkd.run(TEACHER, store=store).student
    training = Trainer(setting, setting.frozen_teacher(teacher), make_accelerator("no"), Options())
    before = copy.deepcopy(training.task.objective.state_dict())
    training.run(lambda images: None, Checkpoints(store.folder / "checkpoints"))
    after = training.task.objective.state_dict()
    assert len(before) == 2
    assert not any(torch.equal(value, after[name]) for name, value in before.items())


# All together -------------------------------------------------------------------------------------------------------


def plainly_trained(recipe: Recipe, teacher: nn.Module) -> nn.Module:
    """What the documentation of `Recipe` says, as one would write it without this package."""
    data = load(recipe.data)
    images = subset(data.train, recipe.train_images, seed=recipe.seed)
    stream = data.stream(images, Augmentation(crop=recipe.crop), recipe.batch_size, recipe.seed)
    torch.manual_seed(recipe.seed)
    student = timm.create_model(recipe.student, in_chans=1, num_classes=10).train()
    matrices = [p for p in student.parameters() if p.ndim > 1]
    vectors = [p for p in student.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups)
    temperature, alpha = recipe.objective_args["temperature"], recipe.objective_args["alpha"]
    total = recipe.epochs * stream.steps
    for step in range(total):
        for group in optimizer.param_groups:
            group["lr"] = expected_lr(recipe, total, step)
        batch = stream.batch(step // stream.steps, step % stream.steps)
        logits = student(batch.images)
        with torch.no_grad():
            wanted = F.log_softmax(teacher(batch.images) / temperature, 1)
        given = F.log_softmax(logits / temperature, 1)
        divergence = F.kl_div(given, wanted, reduction="batchmean", log_target=True)
        loss = alpha * temperature**2 * divergence + (1 - alpha) * F.cross_entropy(logits, batch.target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), recipe.clip)
        optimizer.step()
    return student.eval()


def test_a_run_ends_bit_for_bit_in_the_weights_of_a_bare_pytorch_loop(store: Store) -> None:
    recipe = replace(TAUGHT, batch_size=32, crop=2, clip=0.5, seed=3)
    expected = plainly_trained(recipe, fold_batchnorm(lkd.run(TEACHER, store=store).student))
    found = lkd.run(recipe, store=store).student
    assert equal(found, expected)


def test_batch_statistics_over_processes_replace_every_batch_norm_and_keep_its_activation() -> None:
    recipe = replace(STEPS, student="resnet18", student_args={"drop_path_rate": 0.0})
    students = []
    for sync_bn in (False, True):
        setting = RunSetup(replace(recipe, sync_bn=sync_bn), {})
        students.append(Trainer(setting, None, make_accelerator("no"), Options()).task.student.eval())
    plain, joined = students
    norms = [module for module in joined.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert len(norms) == sum(isinstance(module, nn.BatchNorm2d) for module in plain.modules()) == 20
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(joined(images), plain(images))


# Stopped at an accuracy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("accuracy", "rows", "steps"), [(0.0, 1, 2), (100.0, 2, 8), (None, 2, 8)])
def test_training_stops_at_the_first_look_at_which_it_is_good_enough(
    accuracy: float | None, rows: int, steps: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lkd.engine.trainer.STOP_CHECK_STEPS", 2)
    seen: list[int] = []
    run = execute(replace(STEPS, stop_top1=accuracy), store, {}, progress=seen.append)
    assert (len(run.history), len(seen)) == (rows, steps)
    assert run.history.train_total.between(1, 3).all(), "a mean over the steps that were done"


def test_a_training_that_was_interrupted_where_it_would_have_stopped_stops_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lkd.engine.trainer.STOP_CHECK_STEPS", 2)
    recipe, often = replace(STEPS, stop_top1=0.0), Options(checkpoint_seconds=0)

    def interrupt(images: int) -> None:
        interrupt.steps += 1
        if interrupt.steps == 3:
            raise KeyboardInterrupt

    interrupt.steps = 0
    undisturbed = execute(recipe, Store(tmp_path / "undisturbed"), {}, options=often)
    with pytest.raises(KeyboardInterrupt):
        execute(replace(recipe, stop_top1=None), store, {}, options=often, progress=interrupt)
    left = store.folder / "checkpoints"
    (left / replace(recipe, stop_top1=None).run_id).rename(left / recipe.run_id)
    for older in sorted((left / recipe.run_id).glob("*.pt"))[:-1]:
        older.unlink()
    again = execute(recipe, store, {}, options=often)
    assert same(again, undisturbed)
