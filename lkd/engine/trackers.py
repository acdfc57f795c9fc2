"""Logging of a run's metrics to Accelerate's trackers, such as TensorBoard."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import methodcaller
from typing import Any

from accelerate.tracking import GeneralTracker

from lkd.engine.trainer import Trainer
from lkd.recipe import Recipe
from lkd.runs.public_names import public
from lkd.util.progress import Progress


@contextmanager
def log_to_trackers(trainer: Trainer, progress: Progress) -> Iterator[Progress]:
    """A progress callback that also logs the metrics of each epoch to the accelerator's trackers.

    An epoch is logged at the first step of the next one, the last epoch at the end. A tracker that fails is dropped
    with a warning; the run's history is complete. A resumed run continues in TensorBoard's folder, and in Weights &
    Biases under its id.

    Raises:
        OSError: a tracker that cannot start; names the cause and the remedy.
    """
    accelerator, recipe, logged = trainer.accelerator, trainer.recipe, len(trainer.history)

    def log_epochs() -> None:
        nonlocal logged
        for row in trainer.history[logged:]:
            _each(accelerator.trackers, methodcaller("log", row, step=int(row["epoch"])))
        logged = len(trainer.history)

    def report(images: int) -> None:
        progress(images)
        log_epochs()

    try:
        accelerator.init_trackers("lkd", _config(recipe), {"wandb": {"id": recipe.run_id, "resume": "allow"}})
    except Exception as error:  # each tracker raises its own errors
        raise OSError(
            f"a tracker of {', '.join(trainer.options.trackers)} cannot start ({error}): log in to it, set it to work "
            "offline, or leave it out of trackers"
        ) from error
    try:
        yield report
        log_epochs()
    finally:
        _each(accelerator.trackers, methodcaller("finish"))


def _each(trackers: list[GeneralTracker], do: Callable[[GeneralTracker], object]) -> None:
    """Call `do` with each tracker; drop trackers that fail, with a warning."""
    for tracker in list(trackers):
        try:
            do(tracker)
        except Exception as error:
            trackers.remove(tracker)
            warnings.warn(
                f"tracker {tracker.name!r} failed ({error}) and gets no more metrics: see the run's history",
                stacklevel=2,
            )


def _config(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values by name, without this machine's folders: trackers may send it to a server."""
    fields = public({**recipe.to_dict(), "teacher": recipe.teacher_name, "run_id": recipe.run_id})
    return {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for name, value in fields.items()
    }
