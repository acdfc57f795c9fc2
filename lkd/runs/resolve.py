"""Models by what people call them: a timm name, a folder, the id of a run; and the data that each of them expects."""

import dataclasses
import re
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from lkd.data import DataSet, Files, Images, load, scheme
from lkd.models import load_model
from lkd.models.names import check_name, check_source, is_name
from lkd.recipe import IN_MEMORY
from lkd.runs.catalogue import full_id
from lkd.runs.store import Run, Store
from lkd.util.checks import unknown
from lkd.util.files import fetching

_ID = re.compile("[0-9a-f]{1,16}")


class Shown(NamedTuple):
    """A trained model, and images as it expects them.

    Attributes:
        model: in eval mode.
        data: normalised, and where they are files sized, as the model expects.
        run: whose student the model is; None for others.
    """

    model: nn.Module
    data: DataSet
    run: Run | None


def resolve(text: str, store: Store) -> str | Path | Run:
    """What a text stands for: a name that timm knows, a folder that is there, or how the id of a finished run begins.

    Args:
        text: as typed.
        store: where runs are looked for.

    Raises:
        FileNotFoundError: a path that is no folder.
        KeyError: none of these, a deprecated timm name, or the beginning of several ids.
        ValueError: a name that begins with a source of weights, `hf-hub:` for example.

    Example:
        >>> from lkd.runs.resolve import resolve
        >>> from lkd.runs.store import Store
        >>> resolve("mini_resnet", Store())
        'mini_resnet'
    """
    check_source("model", text)
    path = Path(text).expanduser()
    if "/" in text and not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}: give one that `lkd.models.save_model` wrote")
    if path.is_dir() and ("/" in text or not is_name(text)):
        return path
    if timm.is_model(text):
        check_name("model", text)
        return text
    if _ID.fullmatch(text):
        return store.by_id(full_id(store.folder, text))
    raise KeyError(
        f"{unknown('model', text, timm.list_models())} Neither is it a folder or the beginning of a run's id"
    )


def trained(text: str, store: Store) -> tuple[nn.Module, Run | None]:
    """The trained network that a text stands for (see `resolve`), and its run if it has one.

    Raises:
        FileNotFoundError, KeyError: as for `resolve`.
        ValueError: a timm name without pretrained weights, a model that only its author's program can build.
    """
    return _network(resolve(text, store))


def _network(given: str | Path | Run) -> tuple[nn.Module, Run | None]:
    """The trained network of what a text stands for, and its run if it has one."""
    if isinstance(given, Run):
        if given.recipe.student.startswith(IN_MEMORY):
            raise ValueError(
                f"run {given.recipe.run_id} is of a model that exists in its author's program only: ask there, by "
                "lkd.run or lkd.distill"
            )
        return given.student, given
    if isinstance(given, Path):
        return load_model(given).eval(), None
    if not ((config := timm.get_pretrained_cfg(given)) and config.has_weights):
        raise ValueError(
            f"{given!r} has no pretrained weights: give the id of a run (`lkd store list`), or a folder that "
            "`lkd.models.save_model` wrote"
        )
    with fetching(given):
        return timm.create_model(given, pretrained=True).eval(), None


def shown(text: str, store: Store, data: str | None = None, image_size: int = 0) -> Shown:
    """A trained model with images as it expects them.

    A run's model sees images as it saw them in training, and a folder's model as `data` says, which is how
    `lkd.distill` shows them; a model by timm name sees them under its own mean and std, image files at its own size,
    crop and interpolation.

    Args:
        text: what the model is called; see `resolve`.
        store: where runs are looked for.
        data: name of the data set; None for that of the run.
        image_size: for images in files, their side; 0 for the model's own.

    Raises:
        FileNotFoundError, KeyError, ValueError: no such model or data, or a model that does not fit the data's images
            or classes.
    """
    given = resolve(text, store)
    model, run = _network(given)
    by_timm = isinstance(given, str)
    if data is None and run is None:
        raise ValueError(f"data is not known: {text!r} is no run's id, so name the images")
    name = data or run.recipe.data  # type: ignore[union-attr]
    images = load(name, **_view(name, model, run, by_timm, image_size))
    _check_fit(text, model, images)
    if by_timm and isinstance(images, Files | Images):
        config = timm.data.resolve_data_config(model=model)
        images = dataclasses.replace(images, mean=config["mean"], std=config["std"])
    return Shown(model, images, run)


def _view(data: str, model: nn.Module, run: Run | None, by_timm: bool, image_size: int) -> dict[str, Any]:
    """How image files are brought to what a model sees; nothing for images in memory."""
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


def _check_fit(text: str, model: nn.Module, data: DataSet) -> None:
    """Refuse a model that does not take the data's images, or has other classes."""
    try:
        with torch.no_grad():
            logits = model(torch.zeros(1, data.channels, *data.size))
    except Exception as error:  # what a network raises for images of another shape cannot be foreseen
        shape = f"{data.channels} x {data.size[0]} x {data.size[1]}"
        raise ValueError(f"{text!r} does not take the images of {data.name} ({shape}): {error}") from error
    classes = logits.shape[-1] if isinstance(logits, Tensor) else None
    if classes != len(data.classes):
        raise ValueError(
            f"{text!r} tells {classes} classes apart, and {data.name} has {len(data.classes)}: give the data it was "
            "trained on, or distil or train it on these"
        )
