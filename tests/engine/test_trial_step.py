"""A trial step reveals failures before a teacher is trained."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from short import SMOKE, TAUGHT, TEACHER, Perceptron
from torch import Tensor, nn

import lkd
from lkd.engine.jobs import check_jobs, remaining_jobs
from lkd.engine.setup import RunSetup
from lkd.engine.trainer import Trainer
from lkd.engine.trial_step import trial_step
from lkd.objectives import OBJECTIVES, Objective, Outputs
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


class Pair(Perceptron):
    """Returns an auxiliary output in training mode, as GoogLeNet does."""

    def forward(self, images: Tensor) -> Any:
        logits = super().forward(images)
        return (logits, logits) if self.training else logits


class Detached(Perceptron):
    """Cuts the graph in training mode."""

    def forward(self, images: Tensor) -> Any:
        return super().forward(images).detach() if self.training else super().forward(images)


class Hard(Objective):
    """Takes labels alone, and no soft target."""

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        return {"own": nn.functional.nll_loss(student.logits.log_softmax(1), target)}


def frozen(module: Perceptron) -> Perceptron:
    return module.requires_grad_(False)


def half(module: Perceptron) -> Perceptron:
    return module.eval().bfloat16()


@pytest.mark.parametrize(
    "student, settings, message",
    [
        (Pair(), {}, "student 'Pair' cannot be trained .*: a step with 64 images in training mode .*got a tuple"),
        (Detached(), {}, "student 'Detached' cannot be trained .*does not require grad"),
        (frozen(Perceptron()), {}, "student has no trainable parameter: set requires_grad"),
        (
            Perceptron(),
            {"batch_size": 64, "accumulation": 64},
            "a step with 1 images in training mode",
        ),
    ],
    ids=["auxiliary output", "no gradient", "frozen", "one image for batch norm"],
)
def test_what_fails_in_training_only_is_refused_before_the_teacher_is_trained(
    student: nn.Module, settings: dict[str, Any], message: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "run", lambda *_: pytest.fail("it trained"))
    with pytest.raises(ValueError, match=message):
        lkd.distill(student, TEACHER, objective="kd", **SMOKE, **settings, store=store)
    assert not list(store.folder.glob("runs/*"))


def test_what_fails_in_the_first_step_is_named_where_nothing_was_rehearsed(store: Store) -> None:
    with pytest.raises(ValueError, match="'Detached' cannot be trained with objective 'label': a step with 64 images"):
        lkd.train(Detached(), **SMOKE, store=store)


def test_an_objective_that_takes_no_mixed_targets_is_refused_for_a_study_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "hard", Hard)
    recipe = replace(TAUGHT, objective="hard", objective_args={}, mixup=0.2)
    with pytest.raises(ValueError, match="objective 'hard': a step with 64 images in training mode fails"):
        check_jobs(remaining_jobs([recipe], store), trial_steps=True)
    check_jobs(remaining_jobs([replace(recipe, mixup=0.0)], store), trial_steps=True)


def test_a_rehearsal_leaves_everything_as_it_was() -> None:
    student = Perceptron()
    weights, random = {name: value.clone() for name, value in student.state_dict().items()}, torch.get_rng_state()
    recipe = replace(TAUGHT, student="memory:student")
    setting = RunSetup(recipe, {"memory:student": student})
    batch = setting.stream.batch(0, 0)
    trial_step(setting)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, weights[name]) for name, value in student.state_dict().items())
    assert all(torch.equal(*pair) for pair in zip(batch, setting.stream.batch(0, 0), strict=True))
