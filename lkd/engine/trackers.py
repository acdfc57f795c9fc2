"""A run's figures in the trackers that Accelerate knows, such as TensorBoard, while it is trained."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lkd.engine.loop import Training
from lkd.progress import Progress
from lkd.recipe import Recipe


@contextmanager
def tracked(training: Training, progress: Progress) -> Iterator[Progress]:
    """A listener to a training's progress that also tells its accelerator's trackers each epoch's figures.

    An epoch is told at the first step of the next one, the last at the end. A run that goes on from a checkpoint goes
    on in TensorBoard's folder, and in Weights & Biases under its id.

    Args:
        training: what will be trained; its accelerator knows the trackers.
        progress: listens as well.
    """
    accelerator, recipe, told = training.accelerator, training.recipe, len(training.history)

    def tell() -> None:
        nonlocal told
        for row in training.history[told:]:
            accelerator.log(row, step=int(row["epoch"]))
        told = len(training.history)

    def report(images: int) -> None:
        progress(images)
        tell()

    accelerator.init_trackers("lkd", _config(recipe), {"wandb": {"id": recipe.run_id, "resume": "allow"}})
    try:
        yield report
        tell()
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def _config(recipe: Recipe) -> dict[str, Any]:
    """A recipe as trackers take it: plain values by name."""
    fields = {**recipe.to_dict(), "teacher": recipe.teacher_name, "run_id": recipe.run_id}
    return {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for name, value in fields.items()
    }
