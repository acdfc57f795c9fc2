"""Callbacks of a run, and the state that they see."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from lkd.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from lkd.engine.trainer import Trainer

Moment = Literal["on_step", "on_epoch", "on_end"]


@dataclass(frozen=True)
class TrainingState:
    """The state of a run, as numbers: a callback cannot change the run through it.

    Attributes:
        recipe: of the run. A teacher that is trained first has a run of its own.
        step, steps: optimizer steps done since the beginning, and in the whole run.
        epoch: finished epochs.
        learning_rate: of the next step; the largest one, if layers have different rates.
        history: metrics of the finished epochs, one dict per epoch: the mean of each loss term (`train_total` and
            others), and the accuracy and loss on validation images (`val_top1`, `val_loss`).
    """

    recipe: Recipe
    step: int
    steps: int
    epoch: int
    learning_rate: float
    history: list[dict[str, float]]
    _sums: Mapping[str, Tensor]
    _count: int

    @classmethod
    def of(cls, trainer: Trainer) -> TrainingState:
        """The present state of a trainer."""
        recipe = trainer.recipe
        return cls(
            recipe,
            trainer.steps_done,
            recipe.epochs * trainer.stream.steps,
            trainer.epoch,
            max(group["lr"] for group in trainer.optimizer.param_groups),
            copy.deepcopy(trainer.history),
            dict(trainer.sums),
            trainer.step * recipe.accumulation,
        )

    @cached_property
    def losses(self) -> dict[str, float]:
        """The mean of each loss term over the steps of the present epoch, in the main process; empty at its start.

        Reading it waits for the GPU.
        """
        return {name: (value / self._count).item() for name, value in self._sums.items()}


class Callback:
    """Methods that a run calls with its state. Derive a class, and give instances as `Options(callbacks=[...])`.

    Callbacks are not part of a recipe, so they must not change the result: the state has numbers only, and random
    states are restored after each call. They are called in the main process, also for a teacher that is trained first,
    and not if the store has the run. A resumed run calls them from its checkpoint on. With `num_processes` above 1, a
    new main process calls copies of them, and their class must be importable.

    Any error of a callback ends the run, which is not stored; the same call goes on from the last checkpoint. `StopRun`
    is meant for this. To stop at a target accuracy, use `stop_top1` of `lkd.Recipe`.

    Example:
        >>> import lkd
        >>> class Show(lkd.engine.Callback):
        ...     def on_epoch(self, state):
        ...         print(state.epoch, state.step, state.steps)
        >>> recipe = lkd.Recipe(data="digits", student="mini_resnet", train_images=128, epochs=2)
        >>> run = lkd.run(recipe, options=lkd.Options(callbacks=[Show()]))
        1 2 4
        2 4 4
    """

    def on_step(self, state: TrainingState) -> None:
        """Called after each optimizer step."""

    def on_epoch(self, state: TrainingState) -> None:
        """Called after each epoch; its metrics are the last of `state.history`."""

    def on_end(self, state: TrainingState) -> None:
        """Called after the last epoch, before the evaluation on the test split."""


class StopRun(Exception):
    """Raised by a callback to end a run without storing it; its message is the reason."""


def check_callbacks(callbacks: Any) -> None:
    """Raise a TypeError for anything but a list of `Callback` instances."""
    if not isinstance(callbacks, list | tuple):
        raise TypeError(f"callbacks must be a list of lkd.engine.Callback instances, got {callbacks!r}")
    for place, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            given = f"the class {callback.__name__}" if isinstance(callback, type) else f"a {type(callback).__name__}"
            raise TypeError(f"callbacks[{place}] must be an instance of a lkd.engine.Callback, got {given}")
