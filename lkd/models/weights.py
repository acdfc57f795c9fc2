"""Weights read from the authors' files, and models written with what it takes to make them again."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from lkd.models.copying import check_has_weights, twin, unwrapped
from lkd.models.exact import check_outputs, evaluating, outputs_of, two_images
from lkd.models.fit import fitted
from lkd.models.reading import read
from lkd.models.state import Call, under, weights_in
from lkd.models.timm_attributes import configuration
from lkd.util.files import replacing
from lkd.util.temporary import temporary_folder

Model = TypeVar("Model", bound=nn.Module)

WEIGHTS, CONFIG = "model.safetensors", "config.json"


# Reading ------------------------------------------------------------------------------------------------------------


def load_checkpoint(
    model: Model,
    path_or_state_dict: str | os.PathLike[str] | Mapping[str, Any],
    *,
    key: str | None = None,
    prefix: str | None = None,
) -> Model:
    """Load weights as the authors' training scripts wrote them, all of them or none.

    A file is read without executing anything from it: tensors and plain values only. What it carries beside the
    weights, such as an optimizer's state, options or a configuration of any class, is left aside. The weights may
    stand alone or under `model`, `state_dict_ema`, `state_dict` or `model_ema`; where there are several, the first of
    these is taken, which is the one that the released scripts evaluate. What data parallelism and compilation add to
    names is dropped, and so are a prefix that all names share, if the rest fits exactly, the projectors of feature
    distillation (`project`, `projects`, `projector`), and the counters of `AveragedModel` (`n_averaged`) and thop
    (`total_ops`, `total_params`). What timm's own loader of an architecture adapts is adapted: a
    ConvNeXt's or Swin's original names, a ViT's position embeddings. Names that PyTorch's strict loading accepts are
    accepted: batch norms without `num_batches_tracked`, for example.

    Args:
        model: gets the weights; is left as it is if anything is wrong.
        path_or_state_dict: a file of `torch.save`, safetensors or `numpy.savez`; the index or any shard of a file in
            shards, which are all read; a folder with `model.safetensors` or `pytorch_model.bin`; or what was read from
            one of these.
        key: the entry that holds the weights, for example `"model_ema"`, or `"ema.shadow"` for an entry of an entry.
        prefix: take only the weights whose names begin with it, and drop it: `"backbone."` of a detector, for example.

    Raises:
        FileNotFoundError: no such file, or one of its shards is missing.
        ValueError: the file is damaged, of another format, would execute something, holds no weights, or does not fit
            the model; the message lists the keys and gives the call or the arguments that fit.
        KeyError: no such `key` or `prefix` in the file.
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
    target = unwrapped(model)
    check_has_weights(target, "model")
    if isinstance(path_or_state_dict, Mapping):
        origin, content = "the state dict", path_or_state_dict
        call = Call("state_dict", key=key, prefix=prefix)
    elif isinstance(path_or_state_dict, str | os.PathLike):
        origin, content = str(path_or_state_dict), read(Path(path_or_state_dict).expanduser())
        call = Call(repr(origin), key=key, prefix=prefix)
    else:
        given = type(path_or_state_dict).__name__
        raise TypeError(f"path_or_state_dict must be a path or a mapping of names to tensors, got {given}")
    state = weights_in(content, key, origin, call)
    if prefix is not None:
        state = under(state, prefix)
    _load(target, fitted(state, target, origin, call), origin)
    return model


def _load(model: nn.Module, state: Mapping[str, Any], origin: str) -> None:
    """Load a state dict that fits; if a method of the model's own fails, the model is left as it was."""
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    before = {name: value.clone() for name, value in own.items()}
    try:
        model.load_state_dict(state)
    except Exception as error:  # a model's own methods can raise anything
        for name, value in own.items():
            value.copy_(before[name])
        raise ValueError(f"{origin} was not loaded: {type(model).__name__}.load_state_dict fails: {error}") from error


# Saving -------------------------------------------------------------------------------------------------------------


def save_model(model: nn.Module, folder: str | os.PathLike[str]) -> Path:
    """Write `model.safetensors` and `config.json`, from which `load_model`, or timm alone, makes the model again.

    The configuration is timm's: architecture, the arguments that `timm.create_model` got, preprocessing. timm reads
    the folder as `timm.create_model("local-dir:FOLDER", pretrained=True)`, and `timm.models.push_to_hf_hub` sends the
    same two files to the Hugging Face hub.

    Raises:
        ValueError: not made by `timm.create_model`, or changed since then (folded, pruned, given another forward), so
            that its configuration would make another model.
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
    model = unwrapped(model)
    if not configuration(model):
        raise ValueError(f"{type(model).__name__} has no configuration to save: make it with timm.create_model")
    with temporary_folder() as temporary:
        plain = twin(model, "model").to(memory_format=torch.contiguous_format)  # what safetensors asks for
        save_for_hf(plain, str(temporary), safe_serialization=True)
        _check_made_again(plain, temporary)
        for name in (WEIGHTS, CONFIG):
            with replacing(Path(folder) / name) as target:
                shutil.copyfile(temporary / name, target)
    return Path(folder)


def _check_made_again(model: nn.Module, folder: Path) -> None:
    """Refuse a model that its configuration makes with other weights or other outputs."""
    try:
        with torch.random.fork_rng(devices=[]):
            again = evaluating(load_model(folder))
        if (images := two_images(again)) is not None:
            check_outputs(*(outputs_of(each, lambda network: network(images)) for each in (again, evaluating(model))))
    except Exception as error:  # what a model of another kind raises cannot be foreseen
        raise ValueError(
            f"{type(model).__name__} is not what timm.create_model makes of its configuration, so it could not be "
            f"loaded again: save it before it is folded or changed otherwise ({str(error).splitlines()[0]})"
        ) from error


def load_model(folder: str | os.PathLike[str], **kwargs: Any) -> nn.Module:
    """The model that `save_model` wrote.

    Args:
        folder: holds `config.json`, and `model.safetensors` or another file of weights that `load_checkpoint` reads
            from a folder.
        kwargs: for `timm.create_model`, over those saved; for example `drop_path_rate`, which is not saved.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: a file instead of a folder; a configuration that is damaged or not timm's; weights that are damaged
            or do not fit.

    Example: see `save_model`.
    """
    folder = Path(folder).expanduser()
    if folder.is_file():
        raise ValueError(
            f"{folder} is a file, and load_model takes a folder with {CONFIG}: make the model by timm.create_model, "
            f"then call load_checkpoint(model, {str(folder)!r})"
        )
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"no file {folder / CONFIG}: give a folder that lkd.models.save_model wrote")
    try:
        model = timm.create_model(f"local-dir:{folder}", **kwargs)
    except Exception as error:  # timm does not check what it reads
        with_them = f" with {kwargs}" if kwargs else ""
        raise ValueError(
            f"{folder / CONFIG} makes no model{with_them} ({type(error).__name__}: {error}): give a folder that "
            "lkd.models.save_model wrote, or one of a timm model on the Hugging Face hub"
        ) from error
    return load_checkpoint(model, folder)
