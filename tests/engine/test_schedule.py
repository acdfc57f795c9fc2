"""timm's schedules, step by step, against timm's own; and what is said of those that cannot work in so few steps."""

from typing import Any

import pytest
import torch
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from lkd import Recipe
from lkd.engine.optimizer import learning_rates, length_warnings, make_schedule
from lkd.profiles import PROFILES, Profile

DIGITS: dict[str, Any] = {"data": "digits", "student": "mini_resnet"}
STEPS = 5
"""Of an epoch."""
LIKE_TIMM: list[tuple[str, dict[str, Any]]] = [
    ("cosine", {"min_lr": 1e-4, "k_decay": 0.7}),
    ("tanh", {"min_lr": 1e-4}),
    ("step", {}),
    ("step", {"decay_epochs": 30}),
    ("step", {"decay_epochs": 2.4, "decay_rate": 0.97}),
    ("step", {"decay_epochs": 0.4, "decay_rate": 0.97}),
    ("constant", {}),
    ("multistep", {}),
    ("multistep", {"decay_milestones": [1, 100.5, 170]}),
    ("poly", {}),
    ("poly", {"decay_rate": 2, "k_decay": 0.5, "min_lr": 1e-5}),
    ("wsd", {}),
    ("wsd", {"decay_epochs": 7, "decay_fn": "linear", "min_lr": 1e-5}),
    ("wsd", {"decay_epochs": 0.5}),
    ("rsqrt", {}),
    ("rsqrt", {"stable_timescale": 3}),
    ("cosine", {"warmup_lr": 1e-3, "noise": [0.2, 0.6], "noise_pct": 0.3, "noise_seed": 7}),
]


def stepped(scheduler: Scheduler, optimizer: torch.optim.Optimizer, times: int, on_epochs: bool = False) -> list[float]:
    """The learning rates at each of so many times, as timm's train.py goes from one to the next."""
    rates = []
    for time in range(times):
        if time:
            (scheduler.step if on_epochs else scheduler.step_update)(time)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.004)


def ours(recipe: Recipe, steps: int = STEPS) -> list[float]:
    made = optimizer()
    return stepped(make_schedule(recipe, made, steps), made, recipe.epochs * steps)


@pytest.mark.parametrize(("schedule", "arguments"), LIKE_TIMM, ids=str)
def test_a_schedule_is_the_one_that_timm_makes_of_the_same_arguments(schedule: str, arguments: dict[str, Any]) -> None:
    recipe = Recipe(**DIGITS, epochs=200, warmup=0.1, lr=0.004, schedule=schedule, schedule_args=arguments)
    made = optimizer()
    theirs, _ = create_scheduler_v2(
        made,
        schedule,
        num_epochs=180,
        warmup_epochs=20,
        warmup_prefix=True,
        step_on_epochs=False,
        updates_per_epoch=STEPS,
        **{"warmup_lr": 0.0, **arguments},
    )
    assert ours(recipe) == pytest.approx(stepped(theirs, made, 200 * STEPS), rel=1e-12)


@pytest.mark.parametrize("arguments", [{}, {"decay_epochs": 30}, {"decay_epochs": 7, "decay_rate": 0.5}], ids=str)
def test_schedule_step_has_the_rates_that_timm_has_when_it_goes_by_the_epoch(arguments: dict[str, Any]) -> None:
    recipe = Recipe(**DIGITS, epochs=200, warmup=0, lr=0.004, schedule="step", schedule_args=arguments)
    made = optimizer()
    theirs, _ = create_scheduler_v2(made, "step", num_epochs=200, **arguments)
    assert ours(recipe)[::STEPS] == pytest.approx(stepped(theirs, made, 200, on_epochs=True), rel=1e-12)


def test_the_default_schedule_has_the_rates_it_had_bit_for_bit() -> None:
    made = optimizer()
    before, _ = create_scheduler_v2(
        made,
        num_epochs=29,
        warmup_epochs=5,
        warmup_prefix=True,
        warmup_lr=0.0,
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    assert ours(Recipe(**DIGITS, epochs=2, lr=0.004), 17) == stepped(before, made, 34)


# What cannot work in so few steps -----------------------------------------------------------------------------------

TOO_SHORT: list[tuple[dict[str, Any], int, str]] = [
    ({"schedule": "step"}, 20, "schedule 'step' every 90 epochs never lowers the learning rate in the 8.5 epochs"),
    ({"schedule": "step", "schedule_args": {"decay_epochs": 9}}, 20, "every 9 epochs never lowers"),
    (
        {"schedule": "multistep"},
        20,
        "decay_milestones [90, 180, 270] of schedule 'multistep' lie beyond the 8.5 epochs",
    ),
    ({"schedule": "multistep", "schedule_args": {"decay_milestones": [3, 9]}}, 20, "decay_milestones [9] of"),
    ({"schedule_args": {"min_lr": 5e-3}}, 20, "schedule 'cosine' never lowers the learning rate"),
    (
        {"schedule": "step", "schedule_args": {"decay_epochs": 0.5}},
        20,
        "in the last 59 % of the steps after warm-up it is",
    ),
    ({"schedule": "step", "schedule_args": {"decay_epochs": 8, "decay_rate": 1e-13}}, 20, "from 0.005 to 5.0e-16, and"),
    ({"schedule": "wsd", "epochs": 5}, 1, "schedule 'wsd' never lowers the learning rate in the 4 epochs"),
    ({"warmup": 1}, 20, "warmup 1 takes 199 of the 200 steps, so only the last step has the full learning rate"),
    ({"ema": 0.9999}, 10, "ema 0.9999 leaves 99 % of the initial weights in the average after 100 steps"),
    ({"ema": 0.999}, 290, "ema 0.999 leaves 5 % of the initial weights in the average after 2900 steps"),
    ({"sparsity": 0.4}, 20, "prune_every 2000 is not below the 200 steps of the run"),
    ({"stop_top1": 80}, 50, "stop_top1 80 has no effect: accuracy is checked every 50 steps of an epoch"),
]
LONG_ENOUGH: list[tuple[dict[str, Any], int]] = [
    ({}, 1),
    ({}, 100_000),
    ({"schedule": "constant"}, 20),
    ({"schedule": "step", "schedule_args": {"decay_epochs": 3}}, 20),
    ({"schedule": "multistep", "schedule_args": {"decay_milestones": [3, 6, 8]}}, 20),
    ({"schedule": "tanh"}, 20),
    ({"schedule": "poly"}, 20),
    ({"schedule": "wsd"}, 20),
    ({"schedule": "rsqrt"}, 20),
    ({"schedule_args": {"noise": 0.5}}, 20),
    ({"ema": 0.9}, 20),
    ({"ema": 0.9999}, 5000),
    ({"sparsity": 0.4, "prune_every": 100}, 20),
    ({"stop_top1": 80}, 51),
]


@pytest.mark.parametrize(("values", "steps", "message"), TOO_SHORT, ids=str)
def test_a_setting_that_cannot_work_in_so_few_steps_is_named(values: dict[str, Any], steps: int, message: str) -> None:
    (said,) = length_warnings(Recipe(**{**DIGITS, "epochs": 10, **values}), steps)
    assert message in said


@pytest.mark.parametrize(("values", "steps"), LONG_ENOUGH, ids=str)
def test_nothing_is_said_of_a_setting_that_can_work(values: dict[str, Any], steps: int) -> None:
    assert length_warnings(Recipe(**{**DIGITS, "epochs": 10, **values}), steps) == []


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_nothing_is_said_of_the_profiles_that_come_with_lkd(name: str) -> None:
    profile = Profile.load(name)
    recipes = [profile.teacher_recipe(model) for model in profile.teachers]
    recipes += [profile.student_recipe(model) for model in profile.students]
    images = {"digits": 1297, "fashion_mnist": 54_000, "folder:cifar100": 45_000, "folder:imagenet": 1_281_167}
    images["tiny_imagenet_32"] = 90_000
    for recipe in recipes:
        count = recipe.train_images or images[recipe.data]
        assert length_warnings(recipe, count // recipe.batch_size) == []


def test_the_decay_that_is_offered_leaves_one_per_cent_of_the_initial_weights() -> None:
    (said,) = length_warnings(Recipe(**DIGITS, epochs=10, ema=0.99999), 5000)
    assert "set ema to at most 0.999908, or train longer" in said and 0.009 < 0.999908**50_000 < 0.011


def test_the_rates_of_a_long_run_are_looked_at_from_end_to_end() -> None:
    rates = learning_rates(Recipe(**DIGITS, epochs=300, lr=0.004), 1250)
    assert len(rates) == 1000 and rates[0] == 0 and rates.max() == pytest.approx(0.004, rel=1e-4)
    assert 0 < rates[-1] < 1e-9
