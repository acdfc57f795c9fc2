"""Description of an exported file: its metadata, and the card beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lkd.data import Files, Images
from lkd.export.difference import Comparison
from lkd.export.subject import Subject
from lkd.runs.provenance import own_version
from lkd.runs.public_names import public
from lkd.util.files import replacing
from lkd.util.markdown import code, fenced, markdown_table, plain

INPUT, OUTPUT = "images", "logits"


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy in percent on the same test images, before and after quantisation."""

    images: int
    float_top1: float
    int8_top1: float

    @property
    def cost(self) -> float:
        """The loss of accuracy, in percentage points."""
        return self.float_top1 - self.int8_top1


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Args:
        path: the file.
        card: the Markdown file beside it, with input, normalisation, classes and the code to run it.
        bytes: size of the file.
        comparison: outputs of the file, before quantisation, against those of the network.
        accuracy: accuracy before and after quantisation; None for a file in float32.
    """

    path: Path
    card: Path
    bytes: int
    comparison: Comparison
    accuracy: Accuracy | None = None


def metadata(subject: Subject, fold: bool) -> dict[str, str]:
    """All that a program needs to know about a file: input, normalisation, classes and origin, as texts."""
    data, run = subject.data, subject.run
    raw = isinstance(data, Images) and data.train.images.is_floating_point()
    values: dict[str, Any] = {
        "network": subject.name,
        "input": INPUT,
        "shape": ["batch", data.channels, *data.size],
        "dtype": "float32",
        "scale": 1 if raw else 255,
        "mean": list(data.mean),
        "std": list(data.std),
        "output": OUTPUT,
        "classes": list(data.classes),
        "data": data.name,
        "batch norm": "folded into convolutions" if fold else "as trained",
        "lkd": own_version(),
    }
    if isinstance(data, Files):
        values |= {"crop_pct": data.view.crop_pct, "interpolation": data.view.interpolation}
    if run is not None:
        values |= {"run": run.recipe.run_id, "top-1 of the run (%)": round(run.metrics["test_top1"], 2)}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in public(values).items()}


def write_card(found: Exported, about: Mapping[str, str], loading: str) -> None:
    """Write the card of an exported file.

    Args:
        found: the file.
        about: its metadata.
        loading: code that defines `logits_of(images)` for a NumPy array of normalised images.
    """
    scale, mean, std = (about[name] for name in ("scale", "mean", "std"))
    shape = json.loads(about["shape"])
    usage = (
        f"{loading}\n\nmean, std = (np.array(values, np.float32)[:, None, None] for values in ({mean}, {std}))\n"
        f"pixels = np.zeros({(1, *shape[1:])}, np.float32)  # your images, (batch, channel, height, width), "
        f"0 to {scale}\nlogits = logits_of((pixels / {scale} - mean) / std)"
    )
    parts = [
        f"# {plain(found.path.name)}",
        f"The network {code(about['network'])}, exported by lkd, with a batch of any size.",
        "## Usage",
        fenced(usage, "python"),
        "## File",
        markdown_table(("", "Value"), [(plain(name), code(value)) for name, value in about.items()]),
        "## Checks",
        markdown_table(("", "Value"), list(_checks(found).items())),
    ]
    with replacing(found.card) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", "utf8")


def _checks(found: Exported) -> dict[str, str]:
    images, difference, tolerance = found.comparison
    rows = {
        "Largest difference from the network's logits, before quantisation"
        if found.accuracy
        else (
            "Largest difference from the network's logits"
        ): f"{difference:.2g} on {images} test images (tolerance {tolerance:.2g})"
    }
    if accuracy := found.accuracy:
        rows |= {
            f"Top-1 of float32 on {accuracy.images:,} test images": f"{accuracy.float_top1:.2f} %",
            "Top-1 of int8 on the same images": f"{accuracy.int8_top1:.2f} %",
        }
    return rows
