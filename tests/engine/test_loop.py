"""The training loop, step by step, against plain PyTorch."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from short import ALONE, TAUGHT, TEACHER, equal
from torch import nn

import lkd
from lkd import Recipe
from lkd.data import Augmentation, Stream, load, subset
from lkd.engine import loop
from lkd.models import fold_batchnorm
from lkd.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = replace(ALONE, batch_size=32)
"""Two epochs of four steps."""
Watch = Callable[[torch.optim.Optimizer], Any]


@pytest.fixture
def at_each_step(monkeypatch: pytest.MonkeyPatch, store: Store) -> Callable[[Recipe, Watch], list[Any]]:
    """Carries out a recipe and collects what a function sees in the optimizer right before each of its steps."""

    def collected(recipe: Recipe, watch: Watch) -> list[Any]:
        seen, make = [], loop.create_optimizer_v2

        def watched(*arguments: Any, **settings: Any) -> torch.optim.Optimizer:
            optimizer = make(*arguments, **settings)
            optimizer.register_step_pre_hook(lambda *_: seen.append(watch(optimizer)))
            return optimizer

        with monkeypatch.context() as patch:
            patch.setattr(loop, "create_optimizer_v2", watched)
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


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion"])
def test_the_optimizer_is_the_one_named(optimizer: str, at_each_step: Any) -> None:
    names = at_each_step(replace(STEPS, optimizer=optimizer), lambda made: type(made).__name__.lower())
    assert names == [optimizer] * 8


def test_the_gradient_is_clipped_by_its_norm(at_each_step: Any) -> None:
    def norm(optimizer: torch.optim.Optimizer) -> float:
        return torch.cat([p.grad.flatten() for p in parameters(optimizer)]).norm().item()

    free = at_each_step(replace(STEPS, clip=None), norm)
    clip = min(free) / 2
    assert at_each_step(replace(STEPS, clip=clip), norm) == pytest.approx([clip] * 8, rel=1e-3)
    assert at_each_step(replace(STEPS, clip=10 * max(free)), norm) == free


def test_the_kept_average_is_the_one_of_a_plain_loop(at_each_step: Any, store: Store) -> None:
    recipe = replace(STEPS, ema=0.7)
    before = at_each_step(recipe, lambda optimizer: [p.detach().clone() for p in parameters(optimizer)])
    last = at_each_step(STEPS, lambda optimizer: parameters(optimizer))[-1]
    average = before[0]
    for weights in [*before[1:], last]:
        average = [0.7 * kept + 0.3 * new for kept, new in zip(average, weights, strict=True)]
    run = store.find(recipe)
    assert run is not None
    kept = dict(run.student.named_parameters())
    ordered = [kept[name] for name in _names_in_order(run.student)]
    for ours, theirs in zip(ordered, average, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def _names_in_order(model: nn.Module) -> list[str]:
    """Names of the parameters in the order of the optimizer's groups: those that do not decay come first."""
    named = list(model.named_parameters())
    return [name for name, p in named if p.ndim <= 1] + [name for name, p in named if p.ndim > 1]


# All together -------------------------------------------------------------------------------------------------------


def plainly_trained(recipe: Recipe, teacher: nn.Module) -> nn.Module:
    """What the documentation of `Recipe` says, as one would write it without this package."""
    data = load(recipe.data)
    images = subset(data.train, recipe.train_images, seed=0)
    stream = Stream(data, images, Augmentation(crop=recipe.crop), recipe.batch_size, recipe.seed)
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
