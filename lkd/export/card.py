"""Model cards of students in the format of the Hugging Face hub."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from timm.models import model_entrypoint

from lkd.paper import papers
from lkd.recipe import IN_MEMORY, Recipe
from lkd.runs.catalogue import changed
from lkd.runs.public_names import public
from lkd.runs.store import Run
from lkd.util.markdown import code, fenced, markdown_table, plain

_NOT_STATED = "not stated"
_LOCAL = "local-dir:"
_CITED = ("L2S", "VanillaKD")

_DATA = {
    "digits": {
        "description": "scikit-learn's copy of the test part of Optical Recognition of Handwritten Digits "
        "(E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998)",
    },
    "fashion_mnist": {
        "description": "Fashion-MNIST (Zalando)",
        "licence": "MIT",
        "hub": "zalando-datasets/fashion_mnist",
    },
}
"""Descriptions, licences and hub names of data sets."""


def card(
    run: Run,
    architecture: str,
    trained_as: str,
    data: Mapping[str, Any],
    title: str,
    address: str,
    license: str | None,
) -> str:
    """The text of the model card.

    Args:
        run: the run of the student.
        architecture: timm's name of the exported network.
        trained_as: timm's name of the trained network.
        data: see `lkd.runs.provenance.data_provenance`.
        title: name of the student.
        address: name for `timm.create_model`; "local-dir:NAME" works in the parent folder of the folder NAME.
        license: license of the weights; None if not stated.
    """
    parts = [
        f"---\n{_front_matter(run.recipe, license)}\n---",
        f"# {plain(title)}",
        _summary(run.recipe, architecture, trained_as),
        "## Usage",
        fenced(_loading(architecture, address), "python"),
        "## Evaluation",
        _evaluation(run, data),
        "## Recipe",
        "The differences from the defaults of `lkd.Recipe`; `recipe.json` has all fields, and those of the teacher.",
        *_shortened_paths(run.recipe),
        _table(_changed_fields(run.recipe)),
        *_teacher(run),
        "## Data",
        _table(_data_rows(run.recipe, data)),
        "## Training environment",
        _table(_environment(run.provenance)),
        "## Citation",
        "\n".join(map(_cited, _CITED)),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(recipe: Recipe, license: str | None) -> str:
    prefix, _, rest = recipe.data.partition(":")
    known = _DATA.get(recipe.data, {}).get("hub")
    hub = rest if prefix == "hfds" and not Path(rest).exists() and rest == public(rest) else known
    tags = ["image-classification", "timm", *(["knowledge-distillation"] if recipe.teacher else [])]
    return ModelCardData(
        license=public(license) or "unknown",
        library_name="timm",
        pipeline_tag="image-classification",
        tags=tags,
        datasets=[hub] if hub else None,
        metrics=["accuracy"],
    ).to_yaml()


def _summary(recipe: Recipe, architecture: str, trained_as: str) -> str:
    name = recipe.teacher_name
    teacher = f" and from the teacher {code(name)}, with the objective {code(recipe.objective)}" if name else ""
    text = f"A {code(architecture)} that learned from labels{teacher}, trained with lkd."
    if recipe.student.startswith(IN_MEMORY):
        text += " Training started from the weights of a given network."
    if architecture != trained_as:
        text += f" It was trained as {code(trained_as)}, and converted to timm's own network with equal outputs."
    return text


def _loading(architecture: str, address: str) -> str:
    package = model_entrypoint(architecture).__module__.partition(".")[0]
    imports = "import timm" if package == "timm" else f"import {package}, timm  # {package} registers the network"
    place = "# run this in the parent folder of the model's folder\n" if address.startswith(_LOCAL) else ""
    return (
        f"{imports}\n\n{place}model = timm.create_model({json.dumps(address)}, pretrained=True).eval()\n"
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))"
    )


def _evaluation(run: Run, data: Mapping[str, Any]) -> str:
    rows = [
        (
            split,
            str(data["images"][split]),
            f"{run.metrics[f'{split}_top1']:.2f}",
            f"{run.metrics[f'{split}_loss']:.4f}",
        )
        for split in ("val", "test")
    ]
    return markdown_table(("Split", "Images", "Top-1 (%)", "Loss (nats)"), rows, right=(1, 2, 3))


def _shortened_paths(recipe: Recipe) -> Iterable[str]:
    """A note on shortened paths, if the recipe contains paths of the training machine."""
    if public(plain_values := recipe.to_dict()) != plain_values:
        yield (
            "Paths of the training machine are reduced to their last name, here and in `recipe.json`. The run's id, "
            f"{code(recipe.run_id)}, is that of the recipe with full paths."
        )


def _changed_fields(recipe: Recipe) -> dict[str, Any]:
    """The non-default fields of a recipe, with the teacher by name."""
    return changed({**recipe.to_dict(), "teacher": recipe.teacher_name})


def _teacher(run: Run) -> Iterable[str]:
    recipe = run.recipe
    if recipe.teacher is None:
        return
    yield "## Teacher"
    origin = run.provenance.get("teacher") or {}
    about = {name: _NOT_STATED if value is None else value for name, value in origin.items()}
    if isinstance(recipe.teacher, Recipe):
        about = {"run": recipe.teacher.run_id, **about, **_changed_fields(recipe.teacher)}
    if "teacher_top1" in run.metrics:
        about["top-1 on the student's validation images (%)"] = f"{run.metrics['teacher_top1']:.2f}"
    yield _table({"name": recipe.teacher_name, **about})


def _data_rows(recipe: Recipe, data: Mapping[str, Any]) -> dict[str, Any]:
    known = _DATA.get(recipe.data, {})
    return {
        "name": recipe.data,
        "description": known.get("description", _NOT_STATED),
        "licence": known.get("licence", _NOT_STATED),
        "training images": recipe.train_images or data["images"]["train"],
        "size": data["size"],
        "mean": data["mean"],
        "std": data["std"],
        "classes": len(data["classes"]),
    }


def _environment(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Software and hardware of the run, as far as its provenance has them."""
    shown = ("lkd", "source", "numerics", "python", "hardware", "processes", "threads", "started", "seconds")
    return {name: provenance[name] for name in shown if name in provenance} | provenance["packages"]


def _cited(name: str) -> str:
    paper = papers()[name]
    return f"- *{plain(paper['title'])}*, {paper['venue']}, [arXiv:{paper['arxiv']}](https://arxiv.org/abs/{paper['arxiv']})"


def _table(values: Mapping[str, Any]) -> str:
    shown = {name: value if isinstance(value, str) else json.dumps(value) for name, value in public(values).items()}
    return markdown_table(("", "Value"), [(plain(name), code(value)) for name, value in shown.items()])
