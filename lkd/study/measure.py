"""What is measured on the models of runs, once, and kept beside them."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config

from lkd.data import Files, Images, load
from lkd.erf import at_size, contribution_map, sample_images
from lkd.models.cost import cost, images_per_second
from lkd.robustness import corruption_errors, imagenet_robustness
from lkd.runs.store import Run
from lkd.util.files import reading, replacing

Arrays = Mapping[str, np.ndarray]

_OF = "run of this measurement"
"""Name of the array that holds the run's id."""


def measured(run: Run, name: str, measure: Callable[..., Arrays], **arguments: Any) -> dict[str, np.ndarray]:
    """What `measure(run, **arguments)` gives; measured once, then read from the run's folder.

    Args:
        run: whose student is measured.
        name: of the measurement; another one when its code comes to give other arrays.
        measure: gives arrays by name; equal runs and arguments must give equal arrays.
        arguments: plain values, that it depends on.

    Raises:
        OSError, ValueError: a measurement that cannot be written or read; names the file and the remedy.
    """
    path = place(run, name, **arguments)
    if not path.exists():
        arrays = measure(run, **arguments)
        with replacing(path) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **arrays, **{_OF: np.array(run.recipe.run_id)})
    again = "remove it, and it is measured again"
    with reading(path, "measurement", again), np.load(path, allow_pickle=False) as file:
        found = dict(file)
        if (of := found.pop(_OF, run.recipe.run_id)) != run.recipe.run_id:  # an earlier lkd wrote none
            raise ValueError(f"it is of run {of}")
    return found


def place(run: Run, name: str, **arguments: Any) -> Path:
    """Where a measurement is kept, or would be."""
    key = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()[:8]
    return run.path / "measured" / f"{name}-{key}.npz"


def measure_all(measure: Callable[[Run], Any], runs: Sequence[Run], workers: int | None = None) -> None:
    """Measure each of some runs, side by side in processes of one thread each.

    Args:
        measure: one of the functions below, with its arguments bound; what it gives is kept beside the run.
        runs: which.
        workers: processes; by default one for each CPU, or a single one where there is a GPU.
    """
    if not runs:
        return
    count = workers or (1 if torch.cuda.is_available() else os.cpu_count() or 1)
    with parallel_config("loky", n_jobs=min(count, len(runs)), inner_max_num_threads=1):
        Parallel()(delayed(measure)(run) for run in runs)


def erf_of(run: Run, size: int, count: int) -> np.ndarray:
    """The contribution map (see `lkd.erf.contribution_map`) of a run's student, kept in float32.

    Args:
        run: which.
        size: side of the images, in pixels; those of the validation split, enlarged.
        count: how many, with classes in proportion.
    """
    return measured(run, "erf", _erf, size=size, count=count)["map"].astype(np.float64)


def errors_of(run: Run, count: int) -> pd.DataFrame:
    """Error of a run's student on corrupted test images: one row a corruption and severity, and one without any.

    Args:
        run: which.
        count: how many images, with classes in proportion.
    """
    return pd.DataFrame(measured(run, "errors", _errors, count=count))


def imagenet_errors_of(run: Run, images: str, count: int | None, folder: str | None = None) -> pd.DataFrame:
    """Errors of a run's student, of ImageNet's 1000 classes, on one of the sets of `imagenet_robustness`.

    Args:
        run: which.
        images: the set's name.
        count: at most how many images of each of its folders, with classes in proportion; None for all.
        folder: where the sets lie; None to read what has been measured.
    """
    return pd.DataFrame(measured(run, "imagenet", partial(_imagenet_errors, folder=folder), images=images, count=count))


def cost_of(run: Run) -> dict[str, float]:
    """Parameters and multiply-accumulates of an image, as stored and without zeros, and speed, of a run's student."""
    return {name: value.item() for name, value in measured(run, "cost", _cost).items()}


def _cost(run: Run) -> dict[str, np.ndarray]:
    data = load(run.recipe.data, **run.recipe.view)
    counted = cost(run.student, data.channels, data.size)
    return {
        "parameters": np.array(counted.parameters),
        "non-zero parameters": np.array(counted.nonzero_parameters),
        "MMACs": np.array(counted.macs / 1e6),
        "non-zero MMACs": np.array(counted.nonzero_macs / 1e6),
        "images/s": np.array(round(images_per_second(run.student, data.channels, data.size))),
    }


def _erf(run: Run, size: int, count: int) -> dict[str, np.ndarray]:
    model = at_size(run.student, size)
    images = sample_images(load(run.recipe.data, **run.recipe.view), size, count)
    return {"map": contribution_map(model, images).astype(np.float32)}


def _errors(run: Run, count: int) -> dict[str, np.ndarray]:
    model, data = run.student, load(run.recipe.data, **run.recipe.view)
    assert isinstance(data, Images)
    return _arrays(corruption_errors(model, data, count))


def _imagenet_errors(run: Run, images: str, count: int | None, folder: str | None) -> dict[str, np.ndarray]:
    if folder is None:
        raise FileNotFoundError(
            f"run {run.recipe.run_id} was not measured on ImageNet-{images}: say where the sets lie"
        )
    data = load(run.recipe.data, **run.recipe.view)
    assert isinstance(data, Files)
    return _arrays(imagenet_robustness(run.student, folder, [images], count=count, mean=data.mean, std=data.std))


def _arrays(table: pd.DataFrame) -> dict[str, np.ndarray]:
    return {str(name): np.array(column.tolist()) for name, column in table.items()}
