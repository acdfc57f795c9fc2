"""The model card of a student: what it is, how it was made and how to load it, as the Hugging Face hub has cards."""

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
        "what": "scikit-learn's copy of the test part of Optical Recognition of Handwritten Digits "
        "(E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998)",
    },
    "fashion_mnist": {"what": "Fashion-MNIST (Zalando)", "licence": "MIT", "hub": "zalando-datasets/fashion_mnist"},
}
"""What is known of data sets: in words, their licence, and their name on the hub."""


def card(
    run: Run,
    architecture: str,
    trained_as: str,
    data: Mapping[str, Any],
    title: str,
    address: str,
    license: str | None,
) -> str:
    """The text of the card.

    Args:
        run: whose student it is.
        architecture: timm's name of the exported network.
        trained_as: that of the network that was trained.
        data: see `lkd.runs.provenance.data_provenance`.
        title: what the student is called.
        address: what `timm.create_model` loads it by; "local-dir:NAME" from the folder that holds the folder NAME.
        license: of the weights; None where it is not stated.
    """
    parts = [
        f"---\n{_front_matter(run.recipe, license)}\n---",
        f"# {plain(title)}",
        _summary(run.recipe, architecture, trained_as),
        "## To load",
        fenced(_loading(architecture, address), "python"),
        "## Figures",
        _figures(run, data),
        "## Recipe",
        "What differs from the defaults of `lkd.Recipe`; `recipe.json` has all of it, the teacher's included.",
        *_shortened(run.recipe),
        _table(_changed(run.recipe)),
        *_teacher(run),
        "## Data",
        _table(_of_data(run.recipe, data)),
        "## Made with",
        _table(_origin(run.provenance)),
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
    taught = f" and from the teacher {code(name)}, by the objective {code(recipe.objective)}" if name else ""
    words = f"A {code(architecture)} that learned from labels{taught}, trained with lkd."
    if recipe.student.startswith(IN_MEMORY):
        words += " It began with the weights of a network that was given."
    if architecture != trained_as:
        words += f" It was trained as {code(trained_as)}; this is timm's plain form of it, with equal outputs."
    return words


def _loading(architecture: str, address: str) -> str:
    package = model_entrypoint(architecture).__module__.partition(".")[0]
    imports = "import timm" if package == "timm" else f"import {package}, timm  # the package {package} has the network"
    place = "# run this where the folder lies\n" if address.startswith(_LOCAL) else ""
    return (
        f"{imports}\n\n{place}model = timm.create_model({json.dumps(address)}, pretrained=True).eval()\n"
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))"
    )


def _figures(run: Run, data: Mapping[str, Any]) -> str:
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


def _shortened(recipe: Recipe) -> Iterable[str]:
    """That names are not whole, where a recipe names folders of the machine that carried it out."""
    if public(plain_values := recipe.to_dict()) != plain_values:
        yield (
            "Folders of the machine that it was trained on are given by their last names, here and in `recipe.json`. "
            f"The run's id, {code(recipe.run_id)}, is that of the recipe with whole names."
        )


def _changed(recipe: Recipe) -> dict[str, Any]:
    """The fields that are not as a recipe has them by default; a teacher by its name."""
    return changed({**recipe.to_dict(), "teacher": recipe.teacher_name})


def _teacher(run: Run) -> Iterable[str]:
    recipe = run.recipe
    if recipe.teacher is None:
        return
    yield "## Teacher"
    told = run.provenance.get("teacher") or {}
    about = {name: _NOT_STATED if value is None else value for name, value in told.items()}
    if isinstance(recipe.teacher, Recipe):
        about = {"run": recipe.teacher.run_id, **about, **_changed(recipe.teacher)}
    if "teacher_top1" in run.metrics:
        about["top-1 on the student's validation images (%)"] = f"{run.metrics['teacher_top1']:.2f}"
    yield _table({"name": recipe.teacher_name, **about})


def _of_data(recipe: Recipe, data: Mapping[str, Any]) -> dict[str, Any]:
    known = _DATA.get(recipe.data, {})
    return {
        "name": recipe.data,
        "what": known.get("what", _NOT_STATED),
        "licence": known.get("licence", _NOT_STATED),
        "training images": recipe.train_images or data["images"]["train"],
        "size": data["size"],
        "mean": data["mean"],
        "std": data["std"],
        "classes": len(data["classes"]),
    }


def _origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What the run was carried out with, as far as its record says."""
    named = ("lkd", "source", "numerics", "python", "hardware", "processes", "threads", "started", "seconds")
    return {name: provenance[name] for name in named if name in provenance} | provenance["packages"]


def _cited(name: str) -> str:
    paper = papers()[name]
    return f"- *{plain(paper['title'])}*, {paper['venue']}, [arXiv:{paper['arxiv']}](https://arxiv.org/abs/{paper['arxiv']})"


def _table(values: Mapping[str, Any]) -> str:
    shown = {name: value if isinstance(value, str) else json.dumps(value) for name, value in public(values).items()}
    return markdown_table(("", "Value"), [(plain(name), code(value)) for name, value in shown.items()])
