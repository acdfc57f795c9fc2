"""The network to export and the images it takes, from a run or from a network and a data set."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lkd.data import DataSet, load, scheme, subset
from lkd.models import fold_batchnorm
from lkd.models.copying import copy_to_cpu
from lkd.models.inference import set_eval_mode
from lkd.models.timm_attributes import pretrained_cfg
from lkd.recipe import IN_MEMORY
from lkd.runs.provenance import data_provenance
from lkd.runs.resolve import check_fit
from lkd.runs.store import Run

COMPARED = 32
"""Test images on which an exported file is compared with the network."""


class Subject(NamedTuple):
    """A network to export.

    Args:
        name: name of the network.
        model: a copy in eval mode, on the CPU.
        data: the images that it takes, normalised for it.
        run: its run, if it has one.
    """

    name: str
    model: nn.Module
    data: DataSet
    run: Run | None

    def images(self, split: str, count: int) -> Tensor:
        """Images of a split, at most `count`, with classes in proportion, as the network takes them."""
        images = self.data.splits[split]
        count = min(count, len(images))
        chosen = subset(images, count, seed=0)
        return next(self.data.batches(chosen, torch.arange(count), count))[0]


def subject(given: Run | nn.Module, data: DataSet | str | None, fold: bool) -> Subject:
    """The network of a run or a model, with its images.

    Args:
        given: a run with weights, or a trained network.
        data: the images; None for those of the run.
        fold: whether to fold batch norms into convolutions.

    Raises:
        FileNotFoundError: a run without weights.
        TypeError: neither a run nor a network, or weights that are not float32.
        ValueError: data is missing or differs from that of the run, or the network does not take its images.
    """
    if isinstance(given, Run):
        name, model, data = given.recipe.student, given.student, _data_of(given, data)
    elif isinstance(given, nn.Module):
        if data is None:
            raise ValueError("data is missing: a network alone has no images, so give data='digits', for example")
        name, model = pretrained_cfg(given).get("architecture", type(given).__name__), given
    else:
        raise TypeError(f"model must be a run or an nn.Module, got {type(given).__name__}")
    data = load(data) if isinstance(data, str) else data
    _check_float32(name, model)
    model = set_eval_mode(copy_to_cpu(model, name))
    check_fit(name, model, data)
    run = given if isinstance(given, Run) else None
    found = Subject(name, model, data, run)
    return found._replace(model=fold_batchnorm(model, found.images("test", 2))) if fold else found


def data_record(run: Run) -> dict[str, Any]:
    """Provenance of a run's data, from the run's record or else from the data set.

    Raises:
        ValueError: a run on in-memory data from before runs recorded their data.
    """
    if recorded := run.provenance.get("data"):
        return dict(recorded)
    if run.recipe.data.startswith(IN_MEMORY):
        raise ValueError(
            f"run {run.recipe.run_id} used in-memory data, and has no record of its normalisation: train it again with "
            "resume=False"
        )
    return data_provenance(_load(run.recipe.data, run))


def _load(data: str, run: Run) -> DataSet:
    """A data set, with the image size and crop of a run."""
    return load(data, **(run.recipe.view if scheme(data) else {}))


def _data_of(run: Run, data: DataSet | str | None) -> DataSet:
    """The data of a run; data given by the caller must have the run's image size, normalisation and classes."""
    recipe = run.recipe
    if data is None and recipe.data.startswith(IN_MEMORY):
        raise ValueError(
            f"run {recipe.run_id} used in-memory data: give it as data=, for example as "
            "lkd.data.from_datasets(train, test)"
        )
    given = recipe.data if data is None else data
    found = _load(given, run) if isinstance(given, str) else given
    recorded, ours = run.provenance.get("data") or {}, data_provenance(found)
    for field in ("size", "classes", "mean", "std"):
        if field in recorded and not _alike(recorded[field], ours[field]):
            raise ValueError(
                f"data {found.name!r} has {field} {ours[field]}, but run {recipe.run_id} was trained with "
                f"{recorded[field]}: give the data of the run"
            )
    return found


def _alike(one: list[float | str], other: list[float | str]) -> bool:
    if all(isinstance(value, float) for value in [*one, *other]):
        return len(one) == len(other) and all(map(math.isclose, one, other))  # type: ignore[arg-type]
    return one == other


def _check_float32(name: str, model: nn.Module) -> None:
    others = {weight.dtype for weight in model.parameters() if weight.is_floating_point()} - {torch.float32}
    if others:
        raise TypeError(f"{name} has weights of {others.pop()}: export model.float()")
