"""A recipe's optimizer and learning rates, as timm makes them."""

from typing import Any

from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from lkd.recipe import Recipe


def make_optimizer(recipe: Recipe, model: nn.Module) -> Optimizer:
    """timm's optimizer of that name; biases, norms and other 1-D parameters do not decay.

    Raises:
        ValueError: arguments that it does not take.
    """
    try:
        return create_optimizer_v2(
            model, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, **recipe.optimizer_args
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"optimizer {recipe.optimizer!r} cannot be made with {recipe.optimizer_args}: {error}"
        ) from error


def make_schedule(recipe: Recipe, optimizer: Optimizer, steps: int) -> Scheduler:
    """Linear warm-up from 0, then timm's schedule of that name, both by the step."""
    total = recipe.epochs * steps
    warmup = min(round(recipe.warmup * total), total - 1)
    arguments: dict[str, Any] = {"warmup_lr": 0.0, **recipe.schedule_args}
    if arguments.get("decay_epochs", 0) >= 1:
        arguments["decay_epochs"] *= steps
    if "decay_milestones" in arguments:
        arguments["decay_milestones"] = [epoch * steps for epoch in arguments["decay_milestones"]]
    scheduler, _ = create_scheduler_v2(
        optimizer,
        recipe.schedule,
        num_epochs=total - warmup,
        warmup_epochs=warmup,
        warmup_prefix=True,
        step_on_epochs=False,
        updates_per_epoch=1,
        **arguments,
    )
    return scheduler
