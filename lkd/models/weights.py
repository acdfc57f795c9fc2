"""Loading of released checkpoints; saving and loading of models with their configuration."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from lkd.models.copying import check_has_weights, copy_model, unwrap
from lkd.models.inference import check_equal_outputs, example_images, output_tensors, set_eval_mode
from lkd.models.key_matching import match_keys
from lkd.models.state_dict import Call, find_state_dict, select_prefix
from lkd.models.timm_attributes import pretrained_cfg
from lkd.models.weight_files import read_weights
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
    """Load weights from a training script's checkpoint, either all of them or none.

    The file is read without executing code from it: tensors and plain values only. Other content, such as optimizer
    states, options or configurations of any class, is ignored.

    The weights may be the whole content or an entry `model`, `state_dict_ema`, `state_dict` or `model_ema`; of several
    entries, the first in this order is loaded, as in the released scripts. Names are adapted as follows:

    - Prefixes of data parallelism and compilation are dropped, and a prefix that all names share if the rest fits.
    - Projectors of feature distillation (`project`, `projects`, `projector`) and the counters of `AveragedModel`
      (`n_averaged`) and thop (`total_ops`, `total_params`) are dropped.
    - timm's filter of the architecture is applied: original names of ConvNeXt and Swin, position embeddings of ViT.
    - Names that PyTorch's strict loading accepts are accepted, such as batch norms without `num_batches_tracked`.

    Args:
        model: receives the weights; unchanged in case of an error.
        path_or_state_dict: a `torch.save`, safetensors or `numpy.savez` file; the index or any shard of a sharded file
            (all shards are read); a folder with `model.safetensors` or `pytorch_model.bin`; or the content of one of
            these.
        key: entry that holds the weights, for example `"model_ema"`, or `"ema.shadow"` for a nested one.
        prefix: load only the weights under this prefix, and drop it, for example `"backbone."` of a detector.

    Raises:
        FileNotFoundError: the file or one of its shards is missing.
        ValueError: the file is damaged, has another format, would execute code, holds no weights, or does not fit the
            model; the message lists the keys and shows a call or arguments that fit.
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
    target = unwrap(model)
    check_has_weights(target, "model")
    if isinstance(path_or_state_dict, Mapping):
        origin, content = "the state dict", path_or_state_dict
        call = Call("state_dict", key=key, prefix=prefix)
    elif isinstance(path_or_state_dict, str | os.PathLike):
        origin, content = str(path_or_state_dict), read_weights(Path(path_or_state_dict).expanduser())
        call = Call(repr(origin), key=key, prefix=prefix)
    else:
        given = type(path_or_state_dict).__name__
        raise TypeError(f"path_or_state_dict must be a path or a mapping of names to tensors, got {given}")
    state = find_state_dict(content, key, origin, call)
    if prefix is not None:
        state = select_prefix(state, prefix)
    _load(target, match_keys(state, target, origin, call), origin)
    return model


def _load(model: nn.Module, state: Mapping[str, Any], origin: str) -> None:
    """Load a state dict that fits; restore the weights if a custom method of the model fails."""
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    before = {name: value.clone() for name, value in own.items()}
    try:
        model.load_state_dict(state)
    except Exception as error:  # custom methods can raise anything
        for name, value in own.items():
            value.copy_(before[name])
        raise ValueError(f"{origin} was not loaded: {type(model).__name__}.load_state_dict fails: {error}") from error


# Saving -------------------------------------------------------------------------------------------------------------


def save_model(model: nn.Module, folder: str | os.PathLike[str]) -> Path:
    """Write `model.safetensors` and `config.json`, which `load_model` and timm can load.

    The configuration is timm's: architecture, arguments of `timm.create_model`, preprocessing. timm loads the folder
    with `timm.create_model("local-dir:FOLDER", pretrained=True)`; `timm.models.push_to_hf_hub` uploads the same two
    files to the Hugging Face hub.

    Raises:
        ValueError: the model was not made by `timm.create_model`, or was changed since (folded, pruned, another
            forward).
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
    model = unwrap(model)
    if not pretrained_cfg(model):
        raise ValueError(f"{type(model).__name__} has no configuration to save: create it with timm.create_model")
    with temporary_folder() as temporary:
        plain = copy_model(model, "model").to(memory_format=torch.contiguous_format)  # required by safetensors
        save_for_hf(plain, str(temporary), safe_serialization=True)
        _check_made_again(plain, temporary)
        for name in (WEIGHTS, CONFIG):
            with replacing(Path(folder) / name) as target:
                shutil.copyfile(temporary / name, target)
    return Path(folder)


def _check_made_again(model: nn.Module, folder: Path) -> None:
    """Refuse a model with other outputs after saving and loading."""
    try:
        with torch.random.fork_rng(devices=[]):
            again = set_eval_mode(load_model(folder))
        if (images := example_images(again)) is not None:
            models = again, set_eval_mode(model)
            check_equal_outputs(*(output_tensors(each, lambda network: network(images)) for each in models))
    except Exception as error:  # other models can raise anything
        raise ValueError(
            f"{type(model).__name__} differs from the model that timm.create_model makes of its configuration, so it "
            f"could not be loaded again: save it before it is folded or changed ({str(error).splitlines()[0]})"
        ) from error


def load_model(folder: str | os.PathLike[str], **kwargs: Any) -> nn.Module:
    """Load a model that `save_model` wrote.

    Args:
        folder: contains `config.json`, and `model.safetensors` or another weight file that `load_checkpoint` accepts.
        kwargs: arguments of `timm.create_model` that override the saved ones, for example `drop_path_rate`, which is
            not saved.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: a file instead of a folder; a configuration that is damaged or not timm's; weights that are damaged
            or do not fit.

    Example: see `save_model`.
    """
    folder = Path(folder).expanduser()
    if folder.is_file():
        raise ValueError(
            f"{folder} is a file, but load_model needs a folder with {CONFIG}: create the model by timm.create_model, "
            f"then call load_checkpoint(model, {str(folder)!r})"
        )
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"no file {folder / CONFIG}: give a folder that lkd.models.save_model wrote")
    try:
        model = timm.create_model(f"local-dir:{folder}", **kwargs)
    except Exception as error:  # timm does not validate the configuration
        arguments = f" with {kwargs}" if kwargs else ""
        raise ValueError(
            f"timm cannot create a model from {folder / CONFIG}{arguments} ({type(error).__name__}: {error}): give a "
            "folder that lkd.models.save_model wrote, or a timm model's folder from the Hugging Face hub"
        ) from error
    return load_checkpoint(model, folder)
