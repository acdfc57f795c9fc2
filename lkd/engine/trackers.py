"""A run's figures in the trackers that Accelerate knows, such as TensorBoard, while it is trained."""

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
def tracked(training: Trainer, progress: Progress) -> Iterator[Progress]:
    """A listener to a training's progress that also tells its accelerator's trackers each epoch's figures.

    A tracker that fails while the run is trained gets no more figures, with a warning; the run's history has them all.

    An epoch is told at the first step of the next one, the last at the end. A run that goes on from a checkpoint goes
    on in TensorBoard's folder, and in Weights & Biases under its id.

    Args:
        training: what will be trained; its accelerator knows the trackers.
        progress: listens as well.

    Raises:
        OSError: a tracker that cannot begin; says why, and names the remedy.
    """
    accelerator, recipe, told = training.accelerator, training.recipe, len(training.history)

    def tell() -> None:
        nonlocal told
        for row in training.history[told:]:
            _each(accelerator.trackers, methodcaller("log", row, step=int(row["epoch"])))
        told = len(training.history)

    def report(images: int) -> None:
        progress(images)
        tell()

    try:
        accelerator.init_trackers("lkd", _config(recipe), {"wandb": {"id": recipe.run_id, "resume": "allow"}})
    except Exception as error:  # each tracker has errors of its own
        raise OSError(
            f"a tracker of {', '.join(training.options.trackers)} cannot begin ({error}): log in to it, set it to work "
            "offline, or leave it out of trackers"
        ) from error
    try:
        yield report
        tell()
    finally:
        _each(accelerator.trackers, methodcaller("finish"))


def _each(trackers: list[GeneralTracker], do: Callable[[GeneralTracker], object]) -> None:
    """Do something with each tracker; one that fails is left out from then on."""
    for tracker in list(trackers):
        try:
            do(tracker)
        except Exception as error:
            trackers.remove(tracker)
            warnings.warn(
                f"tracker {tracker.name!r} failed ({error}) and gets no more figures of this run: its history has them",
                stacklevel=2,
            )


def _config(recipe: Recipe) -> dict[str, Any]:
    """A recipe as trackers take it, which may send it elsewhere: plain values by name, without folders."""
    fields = public({**recipe.to_dict(), "teacher": recipe.teacher_name, "run_id": recipe.run_id})
    return {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for name, value in fields.items()
    }
