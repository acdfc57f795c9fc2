"""Load models by timm name, folder or run id, with data as each model expects it."""

import dataclasses
import re
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from lkd.data import DataSet, Files, Images, load, scheme
from lkd.models import load_model
from lkd.models.timm_names import check_name, check_source, is_name
from lkd.recipe import IN_MEMORY
from lkd.runs.catalogue import full_id
from lkd.runs.store import Run, Store
from lkd.util.checks import unknown
from lkd.util.files import fetching

_ID_PREFIX = re.compile("[0-9a-f]{1,16}")


class ModelWithData(NamedTuple):
    """A trained model, and a data set as it expects it.

    Attributes:
        model: the model, in eval mode.
        data: images normalised, and image files resized, for the model.
        run: the run of the model; None for other models.
    """

    model: nn.Module
    data: DataSet
    run: Run | None


def resolve(text: str, store: Store) -> str | Path | Run:
    """Resolve a string to a timm name, an existing folder, or a finished run by a prefix of its id.

    Raises:
        FileNotFoundError: a path that is not a folder.
        KeyError: none of these, a deprecated timm name, or the prefix of several ids.
        ValueError: a name that starts with a source of weights, `hf-hub:` for example.

    Example:
        >>> from lkd.runs.resolve import resolve
        >>> from lkd.runs.store import Store
        >>> resolve("mini_resnet", Store())
        'mini_resnet'
    """
    check_source("model", text)
    path = Path(text).expanduser()
    if "/" in text and not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}: give one written by `lkd.models.save_model`")
    if path.is_dir() and ("/" in text or not is_name(text)):
        return path
    if timm.is_model(text):
        check_name("model", text)
        return text
    if _ID_PREFIX.fullmatch(text):
        return store.by_id(full_id(store.folder, text))
    raise KeyError(f"{unknown('model', text, timm.list_models())} It is neither a folder nor the prefix of a run id")


def load_trained(text: str, store: Store) -> tuple[nn.Module, Run | None]:
    """The trained network of a string (see `resolve`), and its run or None.

    Raises:
        FileNotFoundError, KeyError: as for `resolve`.
        ValueError: a timm name without pretrained weights, or an in-memory model of another program.
    """
    return _network(resolve(text, store))


def _network(given: str | Path | Run) -> tuple[nn.Module, Run | None]:
    """The trained network of a resolved name, and its run or None."""
    if isinstance(given, Run):
        if given.recipe.student.startswith(IN_MEMORY):
            raise ValueError(
                f"run {given.recipe.run_id} has a model that exists only in its author's program: call lkd.run or "
                "lkd.distill there"
            )
        return given.student, given
    if isinstance(given, Path):
        return load_model(given).eval(), None
    if not ((config := timm.get_pretrained_cfg(given)) and config.has_weights):
        raise ValueError(
            f"{given!r} has no pretrained weights: give the id of a run (`lkd store list`), or a folder written by "
            "`lkd.models.save_model`"
        )
    with fetching(given):
        return timm.create_model(given, pretrained=True).eval(), None


def load_with_data(text: str, store: Store, data: str | None = None, image_size: int = 0) -> ModelWithData:
    """Load a trained model, and images as it expects them.

    Images are prepared as in training for a run's model, and as in `lkd.distill` for a folder's model. For a timm name,
    they have the model's mean and std, and image files also its size, crop and interpolation.

    Args:
        text: timm name, folder or run id; see `resolve`.
        store: the store of the runs.
        data: name of the data set; None for the run's data.
        image_size: side of images in files; 0 for the model's own.

    Raises:
        FileNotFoundError, KeyError, ValueError: an unknown model or data set, or a model that does not fit the data's
            images or classes.
    """
    given = resolve(text, store)
    model, run = _network(given)
    by_timm = isinstance(given, str)
    if data is None and run is None:
        raise ValueError(f"data is missing: {text!r} is not the id of a run, so name a data set")
    name = data or run.recipe.data  # type: ignore[union-attr]
    images = load(name, **_view(name, model, run, by_timm, image_size))
    check_fit(text, model, images)
    if by_timm and isinstance(images, Files | Images):
        config = timm.data.resolve_data_config(model=model)
        images = dataclasses.replace(images, mean=config["mean"], std=config["std"])
    return ModelWithData(model, images, run)


def _view(data: str, model: nn.Module, run: Run | None, by_timm: bool, image_size: int) -> dict[str, Any]:
    """Arguments of `load` for the size, crop and interpolation that a model expects."""
    if not scheme(data):
        return {"image_size": image_size}
    if run is not None:
        view = run.recipe.view
    else:
        config = timm.data.resolve_data_config(model=model)
        view = {"image_size": config["input_size"][-1]}
        if by_timm:
            view |= {"crop_pct": config["crop_pct"], "interpolation": config["interpolation"]}
    return {**view, "image_size": image_size or view["image_size"]}


def check_fit(text: str, model: nn.Module, data: DataSet) -> None:
    """Refuse a model that does not take the data's images, or has other classes.

    Raises:
        ValueError: names the model, as `text`, and the data.
    """
    try:
        with torch.no_grad():
            logits = model(torch.zeros(1, data.channels, *data.size))
    except Exception as error:  # a network can raise anything for images of another shape
        shape = f"{data.channels} x {data.size[0]} x {data.size[1]}"
        raise ValueError(f"{text!r} does not take the images of {data.name} ({shape}): {error}") from error
    classes = logits.shape[-1] if isinstance(logits, Tensor) else None
    if classes != len(data.classes):
        raise ValueError(
            f"{text!r} has {classes} classes, but {data.name} has {len(data.classes)}: give the data it was trained "
            "on, or train or distil it on this data"
        )
