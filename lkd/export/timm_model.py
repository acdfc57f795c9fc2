"""Export of students as timm models."""

import json
import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id
from torch import nn

from lkd.data import scheme
from lkd.export.card import card
from lkd.export.subject import data_record
from lkd.models import save_model, to_timm_convnext
from lkd.models.copying import copy_to_cpu
from lkd.models.timm_attributes import pretrained_cfg
from lkd.runs.public_names import disclosed_names, public
from lkd.runs.store import Run
from lkd.util.checks import check_flag
from lkd.util.files import replacing
from lkd.util.progress import say
from lkd.util.temporary import temporary_folder

_OF_THE_NETWORK = ("architecture", "fixed_input_size", "min_input_size", "first_conv", "classifier")
"""Keys of timm's model configuration that describe the network; the others describe pretrained weights."""


def export(run: Run, folder: str | os.PathLike[str], *, repo_id: str | None = None, license: str | None = None) -> Path:
    """Export a run's student in the format of timm and the Hugging Face hub, with a model card and the recipe.

    The folder contains `model.safetensors`; `config.json`, with normalisation, image size and classes of the training
    data; `README.md`, the model card; and `recipe.json`. `timm.create_model("local-dir:FOLDER", pretrained=True)` loads
    it. The ConvNeXt students with batch norm (`convnext_bn_tiny`, `convnext_bn_small`) become timm's own ConvNeXt, with
    equal outputs; the other networks of this project need `import lkd`, as their card shows. Paths of this machine are
    reduced to their last name.

    Args:
        run: a run with weights.
        folder: the folder to create; existing files with these names are replaced.
        repo_id: "OWNER/NAME", for a card with instructions to load the student from the hub.
        license: the hub's name of the weights' license ("mit", "cc-by-4.0"); "unknown" by default.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: a run without weights, a published record for example.
        ValueError: a student that timm did not create, or that was modified; an invalid `repo_id`; a run on in-memory
            data from before runs recorded their data.

    Example:
        >>> import tempfile, timm, lkd
        >>> from lkd.export import export
        >>> run = lkd.run(lkd.Recipe(data="digits", student="mini_resnet", train_images=128))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model = timm.create_model(f"local-dir:{export(run, folder)}", pretrained=True)
        >>> model.pretrained_cfg["input_size"]
        (1, 32, 32)
    """
    if repo_id is not None:
        _check_repo_id(repo_id)
    if not (run.path / "student.safetensors").is_file():
        raise FileNotFoundError(
            f"run {run.recipe.run_id} has no weights in {run.path}: run the recipe with lkd.run first"
        )
    data = data_record(run)
    model = _configured(_converted(run.student), run, data)
    folder = save_model(model, folder)
    name = folder.resolve().name
    address = f"local-dir:{name}" if repo_id is None else f"hf-hub:{repo_id}"
    networks: list[Any] = [model, run.student]
    architecture, trained_as = (network.pretrained_cfg["architecture"] for network in networks)
    texts = {
        "README.md": card(run, architecture, trained_as, data, repo_id or name, address, license),
        "recipe.json": json.dumps(public(run.recipe.to_dict()), indent=1),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, "utf8")
    return folder


def push(run: Run, repo_id: str, *, private: bool = True, license: str | None = None) -> str:
    """Export a student and upload it to the Hugging Face hub, as the logged-in user (`hf auth login`).

    The disclosed names of data, classes, networks and machine are printed before the upload.

    Args:
        run, license: as for `export`.
        repo_id: "OWNER/NAME"; created if missing.
        private: make a new repository private.

    Returns:
        The URL of the repository.

    Raises:
        FileNotFoundError, ValueError: as for `export`, before anything is uploaded.

    Example:
        >>> from lkd.export import push
        >>> push(None, "student")
        Traceback (most recent call last):
        ValueError: repo_id must be OWNER/NAME, got 'student'
    """
    _check_repo_id(repo_id)
    check_flag("private", private)
    api = HfApi(library_name="lkd", library_version=version("lkd"))
    with temporary_folder() as folder:
        export(run, folder, repo_id=repo_id, license=license)
        for kind, names in disclosed_names([run]).items():
            say(f"{repo_id} shows {kind}: {names}")
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        message = f"Student of run {run.recipe.run_id}"
        api.upload_folder(repo_id=repo_id, folder_path=str(folder), commit_message=message)
    return str(address)


def _check_repo_id(repo_id: str) -> None:
    if not isinstance(repo_id, str) or "/" not in repo_id:
        raise ValueError(f"repo_id must be OWNER/NAME, got {repo_id!r}")
    validate_repo_id(repo_id)


def _converted(student: nn.Module) -> Any:
    """A copy of the student, as timm's own network if there is one with equal outputs."""
    with suppress(TypeError, ValueError):
        return to_timm_convnext(student)
    return copy_to_cpu(student, "student")


def _configured(model: Any, run: Run, data: dict[str, Any]) -> Any:
    """The model with the configuration of its training data, instead of that of timm's weights."""
    if config := pretrained_cfg(model):
        recipe, in_files = run.recipe, scheme(run.recipe.data)
        kept = {name: config[name] for name in _OF_THE_NETWORK if name in config}
        model.pretrained_cfg = kept | {
            "input_size": tuple(data["size"]),
            "mean": tuple(data["mean"]),
            "std": tuple(data["std"]),
            "crop_pct": recipe.crop_pct if in_files else 1.0,
            "interpolation": recipe.interpolation if in_files else "bilinear",
            "num_classes": len(data["classes"]),
            "label_names": tuple(public(data["classes"])),
            "pool_size": None,
        }
    return model
