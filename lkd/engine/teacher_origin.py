"""The origin of a teacher's weights, and checks that its classes and images match the data."""

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from timm.data import ImageNetInfo, infer_imagenet_subset
from timm.models import PretrainedCfg

from lkd.data import fingerprint, load, scheme
from lkd.engine.teacher import FrozenTeacher, weights_hash
from lkd.models.normalization import unwrapped
from lkd.recipe import IN_MEMORY, Recipe
from lkd.runs.store import Run
from lkd.util.checks import some
from lkd.util.files import sha256

_WORDNET = re.compile(r"n\d{8}")
_BIN, _SAFE = "pytorch_model.bin", "model.safetensors"


def teacher_origin(recipe: Recipe, teacher: FrozenTeacher) -> dict[str, Any]:
    """The provenance of a run's teacher.

    Args:
        recipe: the run's recipe.
        teacher: the teacher as used in the run.

    Returns:
        `weights`, the hash of the weights as used (see `lkd.engine.teacher.weights_hash`); for a teacher from the
        store also its `run`, for a pretrained one the result of `weights_origin`.
    """
    given, weights = recipe.teacher, {"weights": weights_hash(unwrapped(teacher.model))}
    if isinstance(given, Recipe):
        return {"run": given.run_id, **weights}
    if given is None or given.startswith(IN_MEMORY):
        return weights
    return weights_origin(given) | weights


def weights_origin(name: str) -> dict[str, str | None]:
    """The source of a pretrained timm model's weights, from the caches of this machine.

    Args:
        name: name of a timm model that has been created with `pretrained=True`.

    Returns:
        `name` with its tag; `hub_id` and `commit` for weights from the Hugging Face hub, `url` for others; `file` and
        its `sha256`. Values that the caches do not contain are None.

    Raises:
        ValueError: the model has no pretrained weights.

    Example:
        >>> from lkd.engine.teacher_origin import weights_origin
        >>> weights_origin("test_resnet")["hub_id"]
        'timm/test_resnet.r160_in1k'
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise ValueError(f"model {name!r} has no pretrained weights")
    about: dict[str, str | None] = {"name": ".".join(filter(None, (config.architecture, config.tag)))}
    path = Path(config.file) if config.file else None
    if config.hf_hub_id and not path:
        path = in_hub_cache(config)
        about |= {"hub_id": config.hf_hub_id, "commit": path.parent.name if path else None}
    elif config.url and not path:
        url = config.url if isinstance(config.url, str) else config.url[0]
        name = Path(urlsplit(url).path).name if url is config.url else config.url[1]
        path, about["url"] = Path(torch.hub.get_dir()) / "checkpoints" / name, url
    return about | {"file": path.name if path else None, "sha256": sha256(path) if path and path.is_file() else None}


def check_classes(teacher: Recipe | str | None, classes: Sequence[str]) -> None:
    """Check by name that the data has the classes of a teacher pretrained on ImageNet, in the same order.

    WordNet ids must be equal. Other names cannot be compared and cause a warning, unless they are ImageNet's own
    descriptions.

    Args:
        teacher: the recipe's teacher; only the classes of a pretrained timm model are known.
        classes: names of the data's classes, in order.

    Raises:
        ValueError: WordNet ids of other classes, or in another order.

    Example:
        >>> from timm.data import ImageNetInfo
        >>> from lkd.engine.teacher_origin import check_classes
        >>> check_classes("test_resnet", ImageNetInfo().label_names())
    """
    if not isinstance(teacher, str) or not (config := timm.get_pretrained_cfg(teacher)):
        return
    if config.num_classes != len(classes) or not (subset := infer_imagenet_subset(config.to_dict())):
        return
    info = ImageNetInfo(subset)
    known = list(config.label_names or info.label_names())
    if all(map(_WORDNET.fullmatch, classes)):
        _check_order(teacher, known, list(classes))
    elif list(classes) != info.label_descriptions():
        warnings.warn(
            f"teacher {teacher!r} has {len(known)} classes of {subset}; the data's classes have other names "
            f"({some(classes)}): make sure that they are the same classes, in the order of their WordNet ids",
            stacklevel=2,
        )


def warn_of_changed_images(runs: Sequence[Run]) -> None:
    """Warn of image files that have changed since finished runs, once per data set; missing files are skipped."""
    made: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if scheme(run.recipe.data) and "fingerprint" in run.provenance.get("data", {}):
            made.setdefault((run.recipe.data, repr(run.recipe.view)), []).append(run)
    for (name, _), group in made.items():
        with suppress(OSError, ImportError, ValueError):
            now = fingerprint(load(name, **group[0].recipe.view))
            if changed := [run.recipe.run_id for run in group if run.provenance["data"]["fingerprint"] != now]:
                warnings.warn(
                    f"the files of {name} have changed (path, size or modification time) since {some(changed)} "
                    "ran: restore the files, or train again with resume=False",
                    stacklevel=3,
                )


def _check_order(teacher: str, known: list[str], classes: list[str]) -> None:
    pairs = (("does not have", set(known) - set(classes)), ("adds", set(classes) - set(known)))
    differences = [f"{text} {some(names)}" for text, names in pairs if names]
    if not differences and classes != known:
        place = next(place for place, pair in enumerate(zip(classes, known, strict=True)) if len(set(pair)) > 1)
        differences = [f"has {classes[place]!r} as class {place}, which is {known[place]!r}"]
    if differences:
        raise ValueError(
            f"the data {' and '.join(differences)} compared with the {len(known)} classes of teacher {teacher!r}: give "
            "data with the teacher's classes in its order (sorted WordNet ids), or a teacher trained on these classes"
        )


def in_hub_cache(config: PretrainedCfg) -> Path | None:
    """A model's weights file in the local cache of the Hugging Face hub, chosen as timm does; None if there is none."""
    repository, _, revision = str(config.hf_hub_id).partition("@")
    named = config.hf_hub_filename or _BIN
    for filename in (named.replace(_BIN, _SAFE), named):
        found = try_to_load_from_cache(repository, filename, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None
