"""Measurements on trained models, made once and stored in the runs' folders."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config
from torch import nn

from lkd.data import Files, Images, load
from lkd.erf import at_size, contribution_map, sample_images
from lkd.models.cost import cost, images_per_second
from lkd.robustness import corruption_errors, imagenet_robustness
from lkd.runs.store import Run
from lkd.util.files import json_digest, reading, replacing

Arrays = Mapping[str, np.ndarray]

_RUN_KEY = "run of this measurement"
"""Name of the array with the run's id."""


class NotMeasuredError(FileNotFoundError):
    """A measurement that is missing and cannot be made here."""


def measured(run: Run, name: str, measure: Callable[..., Arrays], **arguments: Any) -> dict[str, np.ndarray]:
    """The arrays of `measure(run, **arguments)`, computed once and then read from the run's folder.

    Args:
        name: name of the measurement; change it when the code returns other arrays.
        measure: deterministic function that returns arrays by name.
        arguments: its arguments, as plain values.

    Raises:
        OSError, ValueError: a measurement that cannot be written or read; the message names the file and the remedy.
    """
    path = place(run, name, **arguments)
    if not path.exists():
        arrays = measure(run, **arguments)
        with replacing(path) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **arrays, **{_RUN_KEY: np.array(run.recipe.run_id)})
    again = "remove it, and it is measured again"
    with reading(path, "measurement", again), np.load(path, allow_pickle=False) as file:
        found = dict(file)
        if (of := found.pop(_RUN_KEY, run.recipe.run_id)) != run.recipe.run_id:  # files of earlier versions have no id
            raise ValueError(f"it belongs to run {of}")
    return found


def place(run: Run, name: str, **arguments: Any) -> Path:
    """The file of a measurement, which may not exist yet."""
    return run.path / "measured" / f"{name}-{json_digest(arguments)[:8]}.npz"


def measure_all(measure: Callable[[Run], Any], runs: Sequence[Run], workers: int | None = None) -> None:
    """Measure runs in parallel processes of one thread each.

    Args:
        measure: one of the functions below with its arguments bound.
        workers: number of processes; by default one per CPU, or a single one on a machine with a GPU.
    """
    if not runs:
        return
    count = workers or (1 if torch.cuda.is_available() else os.cpu_count() or 1)
    with parallel_config("loky", n_jobs=min(count, len(runs)), inner_max_num_threads=1):
        Parallel()(delayed(measure)(run) for run in runs)


def erf_of(run: Run, size: int, count: int) -> np.ndarray:
    """Contribution map of a run's student (see `lkd.erf.contribution_map`), stored in float16 relative to its maximum.

    Args:
        size: side of the enlarged validation images, in pixels.
        count: number of images, with classes in proportion.
    """
    found = measured(run, "erf", _erf, size=size, count=count)
    return found["map"].astype(np.float64) * found.get("maximum", 1.0)  # earlier versions kept float32 alone


def errors_of(run: Run, count: int) -> pd.DataFrame:
    """Error of a run's student on test images: one row per corruption and severity, and one for clean images.

    Args:
        count: number of images, with classes in proportion.
    """
    return pd.DataFrame(measured(run, "errors", _errors, count=count))


def imagenet_errors_of(run: Run, images: str, count: int | None, folder: str | None = None) -> pd.DataFrame:
    """Errors of a run's student, with ImageNet's 1000 classes, on one of the sets of `imagenet_robustness`.

    Args:
        images: name of the set.
        count: maximum number of images of each of its folders, with classes in proportion; None for all.
        folder: folder of the sets; None to read an existing measurement.
    """
    return pd.DataFrame(measured(run, "imagenet", partial(_imagenet_errors, folder=folder), images=images, count=count))


def cost_of(run: Run) -> dict[str, float]:
    """Parameters and multiply-accumulates per image of a run's student, with and without zeros, and its speed."""
    return {name: value.item() for name, value in measured(run, "cost", _cost).items()}


def _cost(run: Run) -> dict[str, np.ndarray]:
    data = load(run.recipe.data, **run.recipe.view)
    counted = cost(run.student, data.channels, data.size)
    with _on_gpu(run) as student:
        speed = images_per_second(student, data.channels, data.size)
    return {
        "parameters": np.array(counted.parameters),
        "non-zero parameters": np.array(counted.nonzero_parameters),
        "MMACs": np.array(counted.macs / 1e6),
        "non-zero MMACs": np.array(counted.nonzero_macs / 1e6),
        "images/s": np.array(round(speed)),
    }


def _erf(run: Run, size: int, count: int) -> dict[str, np.ndarray]:
    with _on_gpu(run) as student:
        model = at_size(student, size)
        found = contribution_map(model, sample_images(load(run.recipe.data, **run.recipe.view), size, count))
    maximum = found.max()
    return {"map": (found / (maximum or 1.0)).astype(np.float16), "maximum": np.array(maximum)}


def _errors(run: Run, count: int) -> dict[str, np.ndarray]:
    with _on_gpu(run) as student:
        data = load(run.recipe.data, **run.recipe.view)
        assert isinstance(data, Images)
        return _arrays(corruption_errors(student, data, count))


def _imagenet_errors(run: Run, images: str, count: int | None, folder: str | None) -> dict[str, np.ndarray]:
    if folder is None:
        raise NotMeasuredError(
            f"run {run.recipe.run_id} was not measured on ImageNet-{images}: give the folder of the sets"
        )
    data = load(run.recipe.data, **run.recipe.view)
    assert isinstance(data, Files)
    readers = os.cpu_count() or 1 if torch.cuda.is_available() else 0
    with _on_gpu(run) as student:
        return _arrays(
            imagenet_robustness(student, folder, [images], count=count, mean=data.mean, std=data.std, workers=readers)
        )


@contextmanager
def _on_gpu(run: Run) -> Iterator[nn.Module]:
    """The run's student; within the block, on the GPU if there is one."""
    try:
        yield run.student.to("cuda" if torch.cuda.is_available() else "cpu")
    finally:
        run.student.to("cpu")


def _arrays(table: pd.DataFrame) -> dict[str, np.ndarray]:
    return {str(name): np.array(column.tolist()) for name, column in table.items()}
