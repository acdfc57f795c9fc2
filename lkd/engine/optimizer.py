"""A recipe's optimizer and learning-rate schedule, made by timm."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from timm.models import group_parameters
from timm.optim import (
    auto_group_layers,
    create_optimizer_v2,
    get_optimizer_class,
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import SGD, Optimizer

from lkd.engine.task import DistillationTask
from lkd.models.inference import device_of
from lkd.models.normalization import unwrapped
from lkd.models.timm_attributes import without_decay
from lkd.optimization import LAYER_ARGUMENTS, NOISE
from lkd.recipe import Recipe

_DECAY_EPOCHS, _MILESTONES = 90, (90, 180, 270)
"""timm's defaults of `decay_epochs` for schedule "step", and of `decay_milestones`."""

_SAMPLED_STEPS = 1000
"""Maximum number of steps at which a schedule is sampled."""

_INITIAL_SHARE = 0.05
"""Share of the initial weights in a moving average above which a warning is given."""

STOP_CHECK_STEPS = 50
"""Interval (steps of an epoch) of the early-stopping check of a run with `stop_top1`."""


def make_optimizer(recipe: Recipe, task: DistillationTask) -> Optimizer:
    """Make the recipe's optimizer with timm; no weight decay on biases, norms and other 1-D parameters.

    On a GPU, PyTorch's own optimizers update all weights in one fused kernel.

    Raises:
        ValueError: arguments that the optimizer does not take; a missing package or device; layer decay for a student
            of a single layer.
    """
    fused = {"fused": True} if device_of(task).type == "cuda" and _can_be_fused(recipe) else {}
    arguments = {**fused, **recipe.optimizer_args}
    if "layer_decay" in arguments:
        arguments = {name: value for name, value in arguments.items() if name not in LAYER_ARGUMENTS}
        arguments["param_group_fn"] = partial(_layer_groups, recipe)
    try:
        return create_optimizer_v2(task, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, **arguments)
    except (AssertionError, AttributeError, ImportError, IndexError, TypeError, ValueError, re.error) as error:
        raise ValueError(
            f"optimizer {recipe.optimizer!r} cannot be made with {recipe.optimizer_args}: {error}"
        ) from error


def _layer_groups(recipe: Recipe, task: DistillationTask) -> list[dict[str, Any]]:
    """The student's parameters grouped by layer, each group with its scale of the learning rate; then the objective's.

    Raises:
        ValueError: timm finds a single layer.
    """
    student, given = unwrapped(task.student), recipe.optimizer_args
    if len(_layers(student)) == 1:
        raise ValueError(
            f"layer_decay has no effect, as timm finds a single layer in {type(student).__name__}: give its class "
            "timm's method group_matcher, or leave layer_decay out"
        )
    common: dict[str, Any] = {
        "weight_decay": recipe.weight_decay,
        "weight_decay_exclude_1d": given.get("filter_bias_and_bn", True),
        "fallback_no_weight_decay": given.get("fallback_no_weight_decay", False),
    }
    groups = param_groups_layer_decay(
        student,
        no_weight_decay_list=without_decay(student),
        layer_decay=given["layer_decay"],
        min_scale=given.get("layer_decay_min_scale", 0.0),
        **common,
    )
    shared = set(map(id, student.parameters()))
    own = nn.ParameterList(each for each in task.objective.parameters() if id(each) not in shared)
    return [*groups, *(group for group in param_groups_weight_decay(own, **common) if group["params"])]


def _layers(student: nn.Module) -> set[int]:
    """The numbers of a network's layers, by its method `group_matcher` or else by timm's order of its modules."""
    matcher: Any = getattr(student, "group_matcher", None)
    if matcher is None:
        return set(auto_group_layers(student).values())
    return set(group_parameters(student, matcher(coarse=False), reverse=True).values())


def _can_be_fused(recipe: Recipe) -> bool:
    """Whether a recipe's optimizer has a fused form, and its arguments choose no other one."""
    made = get_optimizer_class(recipe.optimizer, bind_defaults=False)
    own = made.__module__.startswith("torch.optim.")
    chosen = {"foreach", "fused", "differentiable"} & recipe.optimizer_args.keys()
    return own and "fused" in inspect.signature(made).parameters and not chosen


def make_schedule(recipe: Recipe, optimizer: Optimizer, steps: int) -> Scheduler:
    """Make the recipe's schedule with timm: linear warm-up from 0, then the schedule itself, updated every step.

    Times in `schedule_args` are in epochs, as in timm, and count from the end of warm-up (timm's `warmup_prefix=True`).

    Args:
        steps: optimizer steps per epoch.

    Raises:
        ValueError: the run has too few steps for the schedule.
    """
    total = recipe.epochs * steps
    warmup = _warmup(recipe, steps)
    try:
        scheduler, _ = create_scheduler_v2(
            optimizer,
            recipe.schedule,
            num_epochs=total - warmup,
            warmup_epochs=warmup,
            warmup_prefix=True,
            step_on_epochs=False,
            updates_per_epoch=1,
            **{"warmup_lr": 0.0, **_in_steps(recipe, steps)},
        )
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(
            f"schedule {recipe.schedule!r} cannot be made with {recipe.schedule_args} for {recipe.epochs} epoch(s) of "
            f"{steps} steps, the first {warmup} for warm-up: {error} (in steps)"
        ) from error
    return scheduler


def length_warnings(recipe: Recipe, steps: int) -> list[str]:
    """Warnings of settings that need more steps: schedule, moving average, sparse masks, early stopping.

    Args:
        steps: optimizer steps per epoch.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.engine.optimizer import length_warnings
        >>> length_warnings(Recipe(data="digits", student="mini_vit", ema=0.9999), steps=20)
        ['ema 0.9999 leaves 100 % of the initial weights in the average after 20 steps, and the average is \
evaluated: set ema to at most 0.79, or train longer']
    """
    total = recipe.epochs * steps
    found = list(_schedule_warnings(recipe, steps))
    if recipe.ema and (left := recipe.ema**total) > _INITIAL_SHARE:
        found.append(
            f"ema {recipe.ema:g} leaves {100 * left:.0f} % of the initial weights in the average after {total} steps, "
            f"and the average is evaluated: set ema to at most {_decay(total)}, or train longer"
        )
    if recipe.sparsity and recipe.prune_every >= total:
        found.append(
            f"prune_every {recipe.prune_every} is not below the {total} steps of the run, so the masks of sparse "
            "training never change: lower it, or train longer"
        )
    if recipe.stop_top1 is not None and steps <= STOP_CHECK_STEPS:
        found.append(
            f"stop_top1 {recipe.stop_top1:g} has no effect: accuracy is checked every {STOP_CHECK_STEPS} steps of an "
            f"epoch, and an epoch has {steps}; leave it out, or lower batch_size"
        )
    return found


def learning_rates(recipe: Recipe, steps: int) -> np.ndarray:
    """The learning rates of a run, without noise: at every step, or at 1000 evenly spaced steps of a longer run.

    Args:
        steps: optimizer steps per epoch.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.engine.optimizer import learning_rates
        >>> recipe = Recipe(data="digits", student="mini_vit", lr=1, warmup=0.5, epochs=2)
        >>> learning_rates(recipe, 2).tolist()
        [0.0, 0.5, 1.0, 0.5]
    """
    total = recipe.epochs * steps
    quiet = {name: value for name, value in recipe.schedule_args.items() if name not in NOISE}
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    schedule = make_schedule(replace(recipe, schedule_args=quiet), optimizer, steps)
    rates = []
    for step in np.linspace(0, total - 1, min(total, _SAMPLED_STEPS)).round().astype(int).tolist():
        if step:
            schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates)


def _decay(total: int) -> str:
    """The decay of a moving average that leaves 1 % of the initial weights; 1 minus it has two digits."""
    return f"{1 - float(f'{1 - 0.01 ** (1 / total):.2g}'):.10g}"


def _warmup(recipe: Recipe, steps: int) -> int:
    """Number of warm-up steps."""
    total = recipe.epochs * steps
    return min(round(recipe.warmup * total), total - 1)


def _in_steps(recipe: Recipe, steps: int) -> dict[str, Any]:
    """The schedule's arguments, with times converted from epochs to steps."""
    arguments = dict(recipe.schedule_args)
    if recipe.schedule == "step":
        arguments["decay_epochs"] = _interval(recipe) * steps
    elif (arguments.get("decay_epochs") or 0) >= 1:
        arguments["decay_epochs"] *= steps
    if recipe.schedule == "multistep":
        arguments["decay_milestones"] = [epoch * steps for epoch in _milestones(recipe)]
    if arguments.get("stable_timescale") is not None:
        arguments["stable_timescale"] *= steps
    return arguments


def _schedule_warnings(recipe: Recipe, steps: int) -> Iterator[str]:
    """Warnings of a schedule that needs more steps."""
    total, warmup = recipe.epochs * steps, _warmup(recipe, steps)
    if warmup > 1 and total - warmup == 1:
        yield (
            f"warmup {recipe.warmup:g} takes {warmup} of the {total} steps, so only the last step has the full "
            "learning rate: lower it, or train longer"
        )
        return
    rates = learning_rates(recipe, steps)
    after, highest = rates[rates.argmax() :], rates.max()
    left = (total - warmup) / steps
    if recipe.schedule == "multistep" and (late := [m for m in _milestones(recipe) if m > left]):
        yield (
            f"decay_milestones {late} of schedule 'multistep' lie beyond the {left:.3g} epochs that follow warm-up: "
            "give earlier decay_milestones in schedule_args, or train longer"
        )
    elif recipe.schedule != "constant" and len(after) > 1 and after.min() > 0.99 * highest:
        interval = f" every {_interval(recipe):g} epochs" if recipe.schedule == "step" else ""
        yield (
            f"schedule {recipe.schedule!r}{interval} never lowers the learning rate in the {left:.3g} epochs that "
            "follow warm-up: change schedule_args, or name schedule 'constant'"
        )
    elif (share := _negligible_share(after / highest)) > 0:
        yield (
            f"schedule {recipe.schedule!r} lowers the learning rate from {highest:g} to {after[-1]:.1e}, and in the "
            f"last {100 * share:.0f} % of the steps after warm-up it is too small to learn: change schedule_args"
        )


def _interval(recipe: Recipe) -> float:
    """Interval (epochs) of the decays of schedule "step"."""
    return float(recipe.schedule_args.get("decay_epochs") or _DECAY_EPOCHS)


def _milestones(recipe: Recipe) -> list[float]:
    """Epochs at which schedule "multistep" decays."""
    return list(recipe.schedule_args.get("decay_milestones", _MILESTONES))


def _negligible_share(shares: np.ndarray) -> float:
    """The share of steps with a learning rate near 0 relative to its maximum; 0 for a short tail only."""
    for below, tail in ((1e-6, 0.25), (1e-12, 0.01)):
        if (share := float((shares < below).mean())) > tail:
            return share
    return 0.0
