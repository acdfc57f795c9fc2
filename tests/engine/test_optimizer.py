"""Layer-wise learning rates: timm's own groups for the student, and a scale of 1 for the objective; 3 seconds."""

import re
from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2
from torch import nn

import lkd
from lkd import Recipe
from lkd.engine.optimizer import make_optimizer, make_schedule
from lkd.engine.task import DistillationTask
from lkd.objectives import Objective, Outputs
from lkd.runs.store import Store

DECAY = {"layer_decay": 0.5, "layer_decay_min_scale": 0.1}


class Projected(Objective):
    """An objective with a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 10)

    def forward(self, student: Outputs, teacher: Outputs | None, target: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"total": self.layer(student.logits).square().mean()}


def recipe(student: str, **changes: Any) -> Recipe:
    return Recipe(data="digits", student=student, lr=0.01, **{"optimizer_args": DECAY, **changes})


def by_name(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, tuple[float, float]]:
    """Scale of the learning rate and weight decay of each parameter."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        names[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
        if id(parameter) in names
    }


@pytest.mark.parametrize("name", ["mini_resnet", "mini_slak", "mini_cswin", "mini_vit"])
def test_the_students_rates_are_those_of_timm(name: str) -> None:
    student = timm.create_model(name, in_chans=1, num_classes=10)
    theirs = create_optimizer_v2(student, "adamw", lr=0.01, weight_decay=0.05, **DECAY)
    task = DistillationTask(student, Projected())
    assert by_name(make_optimizer(recipe(name), task), student) == by_name(theirs, student)


def test_layers_of_the_objective_have_the_full_rate() -> None:
    task = DistillationTask(timm.create_model("mini_resnet", in_chans=1, num_classes=10), Projected())
    groups = make_optimizer(recipe("mini_resnet"), task).param_groups
    own = {id(parameter) for parameter in task.objective.parameters()}
    rates = [group.get("lr_scale", 1) for group in groups for parameter in group["params"] if id(parameter) in own]
    assert rates == [1, 1]


@pytest.mark.parametrize(("name", "layers"), [("slak_tiny", 20), ("cswin_tiny", 27), ("mini_slak", 6)])
def test_layers_follow_each_other_from_the_stem_over_the_blocks_to_the_head(name: str, layers: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    order = group_parameters(model, model.group_matcher(), reverse=True)
    blocks = [order[key] for key in order if re.match(r"stages?\.?\d\.\d+\.", key)]
    assert blocks == sorted(blocks) and set(blocks) == set(range(1, layers - 1))
    assert order["head.weight"] == layers - 1 and order[next(iter(dict(model.named_parameters())))] == 0
    assert order.keys() == dict(model.named_parameters()).keys()
    assert max(group_parameters(model, model.group_matcher(coarse=True), reverse=True).values()) < layers


def test_other_arguments_of_groups_keep_their_effect() -> None:
    student = timm.create_model("mini_resnet", in_chans=1, num_classes=10)
    given = {**DECAY, "filter_bias_and_bn": False}
    groups = make_optimizer(recipe("mini_resnet", optimizer_args=given), DistillationTask(student, Projected()))
    assert {group["weight_decay"] for group in groups.param_groups} == {0.05}


def test_frozen_layers_are_no_reason_to_refuse() -> None:
    student = timm.create_model("mini_resnet", in_chans=1, num_classes=10)
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(name.startswith("stem"))
    optimizer = make_optimizer(recipe("mini_resnet"), DistillationTask(student, Projected()))
    assert {scale for scale, _ in by_name(optimizer, student).values()} == {0.1}


def test_a_normalized_student_has_the_layers_of_its_network() -> None:
    student = timm.create_model("mini_vit", in_chans=1, num_classes=10)
    whole = DistillationTask(lkd.models.Normalized(student, [0.5], [0.5]), Projected())
    alone = DistillationTask(student, Projected())
    assert whole.no_weight_decay() == {name.replace("student", "student.model") for name in alone.no_weight_decay()}
    ours, theirs = (by_name(make_optimizer(recipe("mini_vit"), task), student) for task in (whole, alone))
    assert ours == theirs


def test_the_schedule_scales_the_rate_of_each_layer() -> None:
    made = recipe("mini_resnet", epochs=2, warmup=0)
    optimizer = make_optimizer(made, DistillationTask(timm.create_model("mini_resnet", in_chans=1), Projected()))
    schedule = make_schedule(made, optimizer, 10)
    for step in range(1, 20):
        schedule.step_update(step)
        top = max(group["lr"] for group in optimizer.param_groups)
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(top * group.get("lr_scale", 1))


def test_a_student_of_one_layer_is_refused_before_any_work(store: Store) -> None:
    student = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
    with pytest.raises(ValueError, match="layer_decay has no effect, as timm finds a single layer in Sequential"):
        lkd.train(student, data="digits", profile="smoke", store=store, optimizer_args=DECAY)
    assert not (store.folder / "runs").exists()
