"""The command that estimates the cost of a chapter: `lkd plan`."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkd.cli.options import Json
from lkd.cli.root import app, assignments, errors_reported, say_json

if TYPE_CHECKING:
    import pandas as pd


@app.command()
def plan(
    chapter: Annotated[str, typer.Argument(help="Name of a notebook in notebooks/, without .ipynb.")],
    profile: Annotated[str | None, typer.Option("--profile", help="The scale; by default the chapter's.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter, as in `lkd run`."),
    ] = None,
    measure: Annotated[
        float | None,
        typer.Option("--measure", metavar="SECONDS", help="Approximate duration of the timing; 30 by default."),
    ] = None,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Do not time steps.")] = False,
    gpu: Annotated[str, typer.Option("--gpu", help="The GPU of the estimate.")] = "a100",
    gpus: Annotated[int, typer.Option("--gpus", help="Number of GPUs that share each batch.")] = 1,
    utilisation: Annotated[float, typer.Option("--utilisation", help="Utilised share of the GPU's peak rate.")] = 0.3,
    listed: Annotated[bool, typer.Option("--list", help="List each run.")] = False,
    as_json: Json = False,
) -> None:
    """Estimate the cost of a chapter before it is run: runs, work, hours, memory, disk, and missing data or weights.

    Writes nothing to the store, and downloads nothing.

    Example: lkd plan longer_training --profile imagenet --gpu h100 --gpus 8
    """
    from lkd.book.runner import check_chapter
    from lkd.planning import MEASURE, plan_chapter
    from lkd.planning.report import to_text

    if no_measure and measure is not None:
        raise typer.BadParameter(f"--measure {measure:g} and --no-measure exclude each other: leave one of them out")
    parameters = assignments("-p", parameter)
    if profile is not None and parameters.setdefault("profile", profile) != profile:
        raise typer.BadParameter(f"--profile is {profile}, and -p profile={parameters['profile']}: give one of them")
    seconds = None if no_measure else MEASURE if measure is None else measure
    with errors_reported():
        check_chapter(chapter, parameters)
        scale = str(parameters.pop("profile", "small"))
        how: dict[str, Any] = {"measure": seconds, "gpu": gpu, "gpus": gpus, "utilisation": utilisation}
        found = plan_chapter(chapter, scale, parameters=parameters, **how)
    if as_json:
        runs = {"runs": json.loads(found.runs.to_json(orient="records"))} if listed else {}
        say_json({**found.to_dict(), **runs})
        return
    typer.echo("\n".join(found.sentences()))
    for table in (found.frame, found.runs) if listed else (found.frame,):
        typer.echo()
        _show(table) if sys.stdout.isatty() else typer.echo(to_text(table))


def _show(frame: "pd.DataFrame") -> None:
    """Print a table on a terminal."""
    from rich.console import Console
    from rich.table import Table

    from lkd.planning.report import readable

    texts = readable(frame)
    table = Table(*map(str, texts.columns))
    for row in texts.itertuples(index=False):
        table.add_row(*row)
    Console().print(table)
