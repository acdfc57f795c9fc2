"""Commands that put a student into production: `lkd export` and `lkd pareto`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkd.cli import completion
from lkd.cli.options import ImageSize, Json, OwnData, Trained
from lkd.cli.root import app, errors_reported, say_json

if TYPE_CHECKING:
    import pandas as pd

    from lkd.export import Exported
    from lkd.runs.resolve import ModelWithData


class Format(StrEnum):
    """Formats of `lkd export`."""

    onnx = "onnx"
    torch_export = "torch-export"
    safetensors = "safetensors"


_ENDINGS = {Format.onnx: ".onnx", Format.torch_export: ".pt2", Format.safetensors: ""}


@app.command()
def export(
    model: Trained,
    format: Annotated[Format, typer.Option(help="safetensors writes a folder in timm's format.")] = Format.onnx,
    fold: Annotated[bool, typer.Option("--fold", help="Fold batch norms into convolutions.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to int8, calibrated on training images.")] = False,
    max_drop: Annotated[
        float, typer.Option(min=0, help="Largest loss of top-1 by int8, in points, at which the file is kept.")
    ] = 2.0,
    data: OwnData = None,
    image_size: ImageSize = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; by default named after the model, here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Export a trained model for production: to ONNX, for PyTorch without lkd, or as weights in timm's format.

    The exported outputs are compared with the model's on test images; a file that differs is not kept. A Markdown file
    beside it has input, normalisation, classes and the code to run it.

    Examples: lkd export 3f2a --fold --int8 -o student.onnx

    lkd export resnet50.a1_in1k --data folder:/data/imagenet --format torch-export
    """
    if int8 and format != Format.onnx:
        raise typer.BadParameter(f"--int8 is for --format onnx, not for {format}")
    if fold and format == Format.safetensors:
        raise typer.BadParameter("--fold is for --format onnx and torch-export: timm's networks keep their batch norms")
    if max_drop != 2.0 and not int8:
        raise typer.BadParameter(f"--max-drop {max_drop:g} has no effect without --int8: add --int8, or leave it out")
    target = output or Path(Path(model).name.replace(":", "_") + _ENDINGS[format])
    if format != Format.safetensors and target.suffix != _ENDINGS[format]:
        raise typer.BadParameter(f"--output must end in {_ENDINGS[format]} for --format {format}, got {target}")

    from lkd.export import export_onnx, export_program
    from lkd.export.onnx_model import require_onnx
    from lkd.runs.resolve import load_with_data
    from lkd.runs.store import Store

    with errors_reported():
        if format == Format.onnx:
            require_onnx()
        chosen = load_with_data(model, Store(), data, image_size)
        given = chosen.model if chosen.run is None else chosen.run
        if format == Format.safetensors:
            _export_folder(model, chosen, target, as_json)
            return
        if format == Format.onnx:
            found = export_onnx(given, target, data=chosen.data, fold=fold, int8=int8, max_drop=max_drop)
        else:
            found = export_program(given, target, data=chosen.data, fold=fold)
    _tell(model, found, as_json)


@app.command()
def pareto(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Ids of runs, folders, or timm names.", autocompletion=completion.models
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Images for the accuracy of timm's pretrained weights.", autocompletion=completion.data),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Timed batches.")] = 10,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="File for the figure, .html.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare accuracy with measured latency, parameters and multiply-accumulates, and name the models on the frontier.

    Latency is that of a batch of 1 and of 32 images on this machine's CPU, in PyTorch and, if it is installed, in ONNX
    Runtime: the median after a warm-up.

    Examples: lkd pareto 3f2a 91bc -o pareto.html

    lkd pareto resnet50 convnext_tiny slak_tiny
    """
    from lkd.export import pareto as measure
    from lkd.runs.provenance import processor
    from lkd.util.files import file_path, replacing

    with errors_reported():
        path = None if output is None else file_path(output, ".html")
        if path:
            _check_figure(models, data)
        table = measure(models, data=data, threads=threads, repeats=repeats)
        if path:
            from lkd import figures

            with replacing(path) as temporary:
                figures.pareto(table).write_html(temporary)
    how = {"threads": threads, "repeats": repeats, "processor": processor()}
    if as_json:
        say_json({**how, "rows": table.to_dict("records")})
        return
    typer.echo(_table(table).to_string(index=False, na_rep="–"))
    typer.echo(f"ms: median of {repeats} batches on {threads} CPU thread(s), {how['processor']}")
    for (runtime, batch), rows in table[table.frontier].groupby(["runtime", "batch"], sort=False):
        typer.echo(f"frontier, {runtime}, batch {batch}: {', '.join(rows.sort_values('ms').model)}")


def _export_folder(name: str, chosen: "ModelWithData", folder: Path, as_json: bool) -> None:
    """Write a run's student in timm's format, after comparing a first copy with it."""
    from lkd.export import export as write
    from lkd.export.difference import compare
    from lkd.export.subject import COMPARED, subject
    from lkd.models import load_model
    from lkd.util.temporary import temporary_folder

    if chosen.run is None:
        raise ValueError(f"safetensors is for runs, {name!r} is none: use lkd.models.save_model(model, folder)")
    exported = subject(chosen.run, chosen.data, fold=False)
    with temporary_folder() as first:
        again = load_model(write(chosen.run, first / "student")).eval()
        found = compare(again, exported.model, exported.images("test", COMPARED))
    write(chosen.run, folder)
    if as_json:
        say_json({"model": name, "path": str(folder), **found._asdict()})
    else:
        typer.echo(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}\n{_difference(found)}")


def _tell(name: str, found: "Exported", as_json: bool) -> None:
    accuracy = found.accuracy
    if as_json:
        figures: dict[str, Any] = found.comparison._asdict() | {"bytes": found.bytes}
        figures |= {"accuracy": vars(accuracy) | {"cost": accuracy.cost}} if accuracy else {}
        say_json({"model": name, "path": str(found.path), "card": str(found.card), **figures})
        return
    typer.echo(f"{found.path}: {found.bytes / 1e6:,.2f} MB, card {found.card}")
    typer.echo(_difference(found.comparison))
    if accuracy:
        typer.echo(
            f"top-1 on {accuracy.images:,} test images: float32 {accuracy.float_top1:.2f} %, int8 "
            f"{accuracy.int8_top1:.2f} % ({-accuracy.cost:+.2f} points)"
        )


def _difference(found: Any) -> str:
    return (
        f"largest difference of the logits on {found.images} test images: {found.difference:.2g} "
        f"(tolerance {found.tolerance:.2g})"
    )


def _check_figure(models: list[str], data: str | None) -> None:
    """Refuse a figure without accuracies, or without Plotly, before anything is measured."""
    from lkd.runs.resolve import resolve
    from lkd.runs.store import Run, Store

    if data is None and not any(isinstance(resolve(model, Store()), Run) for model in models):
        raise ValueError(f"--output plots accuracy, but none of {', '.join(models)} is a run: give runs, or --data")


def _table(table: "pd.DataFrame") -> "pd.DataFrame":
    """One row for each model, with a column for each runtime and batch."""
    about = table.drop_duplicates("model").set_index("model")
    found = about.assign(parameters=(about.parameters / 1e6).round(2), macs=(about.macs / 1e6).round(1))
    found = found[["top1", "parameters", "macs"]].round(2)
    found.columns = ["top-1 (%)", "M parameters", "M MACs"]
    for (runtime, batch), rows in table.groupby(["runtime", "batch"], sort=False):
        found[f"{runtime} {batch} (ms)"] = rows.set_index("model").ms.map(lambda ms: float(f"{ms:.3g}"))
    return found.reset_index()
