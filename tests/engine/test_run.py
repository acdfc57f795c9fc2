"""Real runs: the same recipe gives the same result, and what is there is not trained again."""

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short import ALONE, TAUGHT, TEACHER, Perceptron, equal, same
from torch import Tensor

import lkd
from lkd import Recipe
from lkd.data import load
from lkd.engine import Options, evaluate
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.trainer import Trainer
from lkd.models import save_model
from lkd.objectives import Objective
from lkd.runs.store import Run, Store

pytestmark = pytest.mark.usefixtures("one_thread")

AUGMENTED = replace(TAUGHT, crop=2, flip=True, cutout=8, mixup=0.2, cutmix=1.0, smoothing=0.1)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return lkd.run(ALONE, store=Store(tmp_path_factory.mktemp("alone")))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes trained from now on."""
    trained, run = [], Trainer.run

    def counted(training: Trainer, *arguments: Any) -> Any:
        trained.append(training.recipe)
        return run(training, *arguments)

    monkeypatch.setattr(Trainer, "run", counted)
    return trained


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def random_state() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


# Same recipe, same result -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [AUGMENTED, replace(TAUGHT, ema=0.5)], ids=["augmented", "averaged"])
def test_the_same_recipe_gives_the_same_result_whatever_the_global_random_state(recipe: Recipe, tmp_path: Path) -> None:
    seed_all(1)
    first = lkd.run(recipe, store=Store(tmp_path / "first"))
    seed_all(2)
    second = lkd.run(recipe, store=Store(tmp_path / "second"))
    assert first.path != second.path
    assert same(first, second)


def test_stochastic_layers_and_initial_weights_follow_the_recipes_seed(tmp_path: Path) -> None:
    seed_all(0)
    module = Perceptron()
    runs = []
    for number, seed in enumerate((0, 0, 1)):
        seed_all(number)
        runs.append(lkd.train(module, data="digits", profile="smoke", seed=seed, store=Store(tmp_path / str(number))))
    assert same(runs[0], runs[1])
    assert not equal(runs[0].student, runs[2].student)


@pytest.mark.parametrize("ask", [lambda run: run, lambda run: run.student], ids=["run", "student"])
def test_global_random_state_is_left_as_it_was(ask: Callable[[Run], Any], store: Store) -> None:
    seed_all(5)
    before = random_state()
    ask(lkd.run(TAUGHT, store=store))
    assert random_state() == before
    ask(lkd.run(TAUGHT, store=store))
    assert random_state() == before


def test_a_precision_does_not_linger(alone: Run, tmp_path: Path) -> None:
    half = lkd.run(replace(ALONE, precision="bf16"), store=Store(tmp_path / "half"))
    again = lkd.run(ALONE, store=Store(tmp_path / "full"))
    assert not equal(half.student, alone.student)
    assert same(again, alone)


# Found again --------------------------------------------------------------------------------------------------------


def test_a_run_is_found_again_without_training(store: Store, fits: list[Recipe]) -> None:
    first = lkd.run(TAUGHT, store=store)
    assert fits == [TEACHER, TAUGHT]
    assert same(lkd.run(TAUGHT, store=Store(store.folder)), first)
    assert fits == [TEACHER, TAUGHT]


@pytest.mark.slow
def test_a_teacher_that_is_there_is_not_trained_for_another_student(store: Store, fits: list[Recipe]) -> None:
    lkd.run(TEACHER, store=store)
    lkd.run(TAUGHT, store=store)
    lkd.run(replace(TAUGHT, seed=1), store=store)
    assert fits == [TEACHER, TAUGHT, replace(TAUGHT, seed=1)]


@pytest.mark.slow
def test_without_resume_a_run_is_trained_again_and_replaced_but_not_its_teacher(
    store: Store, fits: list[Recipe]
) -> None:
    first = lkd.run(TAUGHT, store=store)
    (first.path / "metrics.json").write_text("{}")
    again = lkd.run(TAUGHT, store=store, resume=False)
    assert fits == [TEACHER, TAUGHT, TAUGHT]
    assert again.metrics == first.metrics


# Teachers and modules of one's own ----------------------------------------------------------------------------------


def test_a_teacher_stays_frozen_while_it_teaches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run, seen = Trainer.run, []

    def watched(training: Trainer, *arguments: Any) -> Any:
        before = copy.deepcopy(training.teacher.model)
        result = run(training, *arguments)
        seen.append((before, training.teacher.model))
        return result

    with_batchnorm = replace(TEACHER, student="mini_resnet")
    trained = lkd.run(with_batchnorm, store=store).student
    monkeypatch.setattr(Trainer, "run", watched)
    lkd.run(replace(TAUGHT, teacher=with_batchnorm), store=store)
    ((before, after),) = seen
    assert any(name.endswith("running_mean") for name, _ in after.named_buffers())
    assert equal(before, trained) and equal(after, trained)
    assert not any(module.training for module in after.modules())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in after.parameters())


def test_modules_given_to_distill_are_left_as_they_were(store: Store) -> None:
    student, teacher = Perceptron(), Perceptron(32)
    copies = copy.deepcopy(student), copy.deepcopy(teacher)
    lkd.distill(student, teacher, data="digits", profile="smoke", train_images=128, precision="bf16", store=store)
    for given, before in zip((student, teacher), copies, strict=True):
        assert equal(given, before)
        assert all(module.training for module in given.modules())
        assert all(parameter.requires_grad and parameter.grad is None for parameter in given.parameters())
        assert vars(given).keys() == vars(before).keys()


# Figures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"ema": 0.5}, {"ema": 0.5, "precision": "bf16"}], ids=str)
def test_the_figures_of_a_run_are_those_of_the_weights_it_keeps(changes: dict[str, Any], store: Store) -> None:
    run, data = lkd.run(replace(ALONE, **changes), store=store), load("digits")
    rounding = 1e-2 if "precision" in changes else 1e-6
    for split in ("val", "test"):
        figures = evaluate(run.student, data, data.splits[split])
        assert run.metrics[f"{split}_loss"] == pytest.approx(figures["loss"], rel=rounding)
        assert run.metrics[f"{split}_top1"] == pytest.approx(figures["top1"], abs=100 * rounding)
    assert run.history.val_loss.iloc[-1] == pytest.approx(run.metrics["val_loss"], rel=1e-6)


def test_the_history_holds_the_mean_of_every_term_by_epoch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    losses, forward = [], Objective.forward

    def recorded(objective: Objective, *arguments: Tensor) -> dict[str, Tensor]:
        terms = forward(objective, *arguments)
        losses.append({name: term.item() for name, term in terms.items()})
        return terms

    lkd.run(TEACHER, store=store)
    monkeypatch.setattr(Objective, "forward", recorded)
    history = lkd.run(replace(TAUGHT, batch_size=32), store=store).history
    losses = losses[-8:]
    assert history.epoch.tolist() == [1, 2]
    for epoch, row in history.iterrows():
        of_epoch = losses[4 * epoch : 4 * epoch + 4]
        for name in ("kd", "label", "total"):
            assert row[f"train_{name}"] == pytest.approx(sum(terms[name] for terms in of_epoch) / 4, rel=1e-6)
        assert row.train_total == pytest.approx(row.train_kd + row.train_label, rel=1e-6)


class BreaksAtThirdStep(Perceptron):
    def __init__(self, highest: float):
        super().__init__()
        self.steps, self.broken = 0, torch.tensor([-highest, highest] * 5)

    def forward(self, images: Tensor) -> Tensor:
        self.steps += self.training
        return super().forward(images) + (self.broken if self.steps == 3 else 0)


@pytest.mark.parametrize(("highest", "told"), [(torch.nan, "nan"), (3e38, "label = inf")])
def test_a_loss_that_is_not_finite_is_told_by_epoch_and_step_and_leaves_no_run(
    highest: float, told: str, store: Store
) -> None:
    with pytest.raises(FloatingPointError, match=rf"in epoch 2, step 1 \(positions 0 to 63 of the stream\): .*{told}"):
        lkd.train(BreaksAtThirdStep(highest), data="digits", profile="smoke", train_images=128, store=store)
    assert not list(store.folder.glob("runs/*"))


def test_a_learning_rate_that_is_too_high_ends_the_run(store: Store) -> None:
    wild = replace(ALONE, optimizer="sgd", lr=1e30, clip=None, epochs=5)
    with pytest.raises(FloatingPointError, match=r"training diverged: after step 2, on val, .* not finite for 100 %"):
        lkd.run(wild, store=store)
    assert store.find(wild) is None


@pytest.mark.slow
def test_a_network_learns_the_digits(store: Store) -> None:
    run = lkd.run(
        Recipe(data="digits", student="mini_convnext", train_images=500, epochs=4, batch_size=32), store=store
    )
    assert run.metrics["test_top1"] > 75
    assert run.history.train_total.is_monotonic_decreasing


# Students and teachers of many kinds --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["module", "folder", "path", "recipe", "run"])
def test_a_trained_model_goes_on_whatever_it_is_given_as(kind: str, store: Store, tmp_path: Path) -> None:
    first = lkd.run(ALONE, store=store)
    save_model(first.student, tmp_path / "model")
    given = {
        "module": first.student,
        "folder": str(tmp_path / "model"),
        "path": tmp_path / "model",
        "recipe": ALONE,
        "run": first,
    }[kind]
    settings: dict[str, Any] = dict(data="digits", profile="smoke", train_images=128, lr=1e-30, weight_decay=0.0)
    went_on = lkd.train(given, store=store, **settings)
    weights = dict(first.student.named_parameters())
    for name, weight in went_on.student.named_parameters():
        torch.testing.assert_close(weight, weights[name], msg=name)
    taught = lkd.distill("mini_resnet", given, store=store, data="digits", profile="smoke", train_images=128)
    assert taught.recipe.teacher == ALONE or str(taught.recipe.teacher).startswith("memory:")


def test_a_label_loss_is_the_one_asked_for(store: Store) -> None:
    run = lkd.train("mini_resnet", data="digits", profile="smoke", train_images=128, hard="bce", store=store)
    assert run.recipe.objective_args == {"hard": "bce"}
    assert run.history.train_label.iloc[0] < 1.5, "ten binary cross-entropies have a mean near ln 2"


def test_without_resume_nothing_of_an_earlier_attempt_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, every = replace(ALONE, batch_size=32), Options(checkpoint_seconds=0)
    expected = lkd.run(recipe, store=Store(store.folder / "undisturbed"))
    Checkpoints(store.folder / "checkpoints" / recipe.run_id).save(900, {"epoch": "of another training"})
    assert same(lkd.run(recipe, store=store, resume=False, options=every), expected)
