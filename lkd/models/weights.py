"""Weights read from the authors' files, and models written with what it takes to make them again."""

import inspect
import os
import re
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import timm
import torch
from timm.models import clean_state_dict, save_for_hf
from torch import Tensor, nn

from lkd.checks import unknown
from lkd.files import replacing
from lkd.models.mismatch import check_fit

Model = TypeVar("Model", bound=nn.Module)

KEYS = ("model", "state_dict_ema", "state_dict", "model_ema")
"""Where a training script's file holds its weights, in the order in which the released scripts read them."""

PROJECTORS = ("project.", "projects.", "projector.")
"""Layers that the released code adds to a student for feature distillation, and that no prediction uses."""

WEIGHTS, CONFIG = "model.safetensors", "config.json"


# Reading ------------------------------------------------------------------------------------------------------------


def load_checkpoint(
    model: Model, path_or_state_dict: str | os.PathLike[str] | Mapping[str, Any], *, key: str | None = None
) -> Model:
    """Load weights as the authors' training scripts wrote them, all of them or none.

    A file is read without executing anything from it: tensors and plain values only, with the options
    (`argparse.Namespace`) and NumPy numbers that such files carry left aside. The weights may stand alone or under
    `model`, `state_dict_ema`, `state_dict` or `model_ema`; where there are several, the first of these is taken, which
    is the one that the released scripts evaluate. Prefixes of data parallelism and compilation are dropped, and so are
    the projectors of feature distillation (`project`, `projects`, `projector`). What timm's own loader of an
    architecture adapts is adapted: a ConvNeXt's or Swin's original names, a ViT's position embeddings.

    Args:
        model: gets the weights; is left as it is if anything is wrong.
        path_or_state_dict: a file of `torch.save` or safetensors, or what was read from one.
        key: the entry that holds the weights, for example `"model_ema"`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, holds more than weights and plain values, or does not fit the model; the
            message lists the keys and says which arguments would make the model fit.
        KeyError: no such `key` in the file.
        TypeError: an argument of another type.

    Example:
        >>> import timm, lkd
        >>> from lkd.models import load_checkpoint
        >>> teacher, student = (timm.create_model("mini_convnext_nano") for _ in range(2))
        >>> student = load_checkpoint(student, {"model": teacher.state_dict(), "epoch": 299})
        >>> bool((student.head.weight == teacher.head.weight).all())
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    if isinstance(path_or_state_dict, Mapping):
        origin, content = "the state dict", path_or_state_dict
    elif isinstance(path_or_state_dict, str | os.PathLike):
        origin, content = str(path_or_state_dict), _read(Path(path_or_state_dict))
    else:
        given = type(path_or_state_dict).__name__
        raise TypeError(f"path_or_state_dict must be a path or a mapping of names to tensors, got {given}")
    state = _adapted(_state_dict(content, key, origin), model)
    check_fit(state, model, origin)
    model.load_state_dict(state)
    return model


class _Ignored:
    """Stands for what a checkpoint carries beside its weights: takes anything, keeps nothing."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


# Options of the run, and the learning rates that NumPy schedules leave in an optimizer's state.
_BESIDE = ("argparse.Namespace", "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give the path of a checkpoint")
    path.open("rb").close()  # a file without permission is no damaged one
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals([(_Ignored, name) for name in _BESIDE]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged or hostile file raises cannot be foreseen
        if wanted := re.search(r"GLOBAL (\S+)", str(error)):
            reason = f"it asks for {wanted[1]}, which is no part of weights; nothing from it was executed"
        else:
            reason = f"it is damaged or no checkpoint ({type(error).__name__})"
        raise ValueError(f"{path} was not read: {reason}") from None


def _state_dict(content: Any, key: str | None, origin: str) -> "OrderedDict[str, Tensor]":
    """The weights in a file's content, without prefixes and projectors, with the version that PyTorch noted."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{origin} holds a {type(content).__name__}: expected a dict of names to tensors")
    if key is None:
        key = next((name for name in KEYS if isinstance(content.get(name), Mapping)), None)
    elif not isinstance(content.get(key), Mapping):
        raise KeyError(
            unknown("key", key, (str(name) for name, value in content.items() if isinstance(value, Mapping)))
        )
    found = content if key is None else content[key]
    _check_values(found, origin)
    state = OrderedDict(clean_state_dict(dict(found)))
    metadata = getattr(found, "_metadata", {})
    prefix = next(iter(found), "").removesuffix(next(iter(state), "")).rstrip(".")
    state._metadata = {"": metadata[prefix]} if prefix in metadata else {}  # type: ignore[attr-defined]
    return state


def _check_values(state: Mapping[Any, Any], origin: str) -> None:
    """Refuse what is no state dict of dense, finite tensors."""
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{origin} has {type(value).__name__} under {name!r}: expected names and tensors only")
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ValueError(f"{origin} has no plain dense tensor under {name!r}")
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{origin} has values that are not finite under {name!r}: its training diverged")


def _adapted(state: "OrderedDict[str, Tensor]", model: nn.Module) -> Mapping[str, Tensor]:
    """What the loader of the model's architecture makes of a state dict; timm calls it `checkpoint_filter_fn`."""
    own = model.state_dict().keys()
    for name in [name for name in state if name.startswith(PROJECTORS) and name not in own]:
        del state[name]
    adapt: Callable[..., Mapping[str, Tensor]] | None
    adapt = getattr(inspect.getmodule(type(model)), "checkpoint_filter_fn", None)
    try:
        return adapt(state, model) if adapt else state
    except Exception:  # not of this architecture: the comparison of keys says so
        return state


# Saving -------------------------------------------------------------------------------------------------------------


def save_model(model: nn.Module, folder: str | os.PathLike[str]) -> Path:
    """Write `model.safetensors` and `config.json`, from which `load_model`, or timm alone, makes the model again.

    The configuration is timm's: architecture, the arguments that `timm.create_model` got, preprocessing. timm reads
    the folder as `timm.create_model("local-dir:FOLDER", pretrained=True)`, and `timm.models.push_to_hf_hub` sends the
    same two files to the Hugging Face hub.

    Raises:
        ValueError: not made by `timm.create_model`, or changed since then (folded, pruned), so that its configuration
            would not make it again.
        TypeError: not a module.

    Example:
        >>> import tempfile, timm, lkd, torch
        >>> from lkd.models import load_model, save_model
        >>> model, images = timm.create_model("mini_slak", kernel_sizes=(9, 9, 7)).eval(), torch.rand(1, 3, 32, 32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load_model(save_model(model, folder))
        >>> torch.equal(again.eval()(images), model(images))
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    if not getattr(model, "pretrained_cfg", None):
        raise ValueError(f"{type(model).__name__} has no configuration to save: make it with timm.create_model")
    with tempfile.TemporaryDirectory() as temporary:
        plain = deepcopy(model).to(memory_format=torch.contiguous_format)  # what safetensors asks for
        save_for_hf(plain, temporary, safe_serialization=True)
        _check_made_again(model, temporary)
        for name in (WEIGHTS, CONFIG):
            with replacing(Path(folder) / name) as target:
                shutil.copyfile(Path(temporary) / name, target)
    return Path(folder)


def _check_made_again(model: nn.Module, folder: str) -> None:
    with torch.device("meta"):
        again = timm.create_model(f"local-dir:{folder}")
    try:
        check_fit(model.state_dict(), again, "the model")
    except ValueError as error:
        raise ValueError(
            f"{type(model).__name__} is not what timm.create_model makes of its configuration, so it could not be "
            "loaded again: save it before it is folded or changed otherwise"
        ) from error


def load_model(folder: str | os.PathLike[str], **kwargs: Any) -> nn.Module:
    """The model that `save_model` wrote.

    Args:
        folder: holds `model.safetensors` and `config.json`.
        kwargs: for `timm.create_model`, over those saved; for example `drop_path_rate`, which is not saved.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the weights are damaged or do not fit.

    Example: see `save_model`.
    """
    return load_checkpoint(timm.create_model(f"local-dir:{folder}", **kwargs), Path(folder) / WEIGHTS)
