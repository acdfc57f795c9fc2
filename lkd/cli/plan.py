"""The command that says what a chapter takes: `lkd plan`."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkd.cli.root import app, assignments, refusals, say_json

if TYPE_CHECKING:
    import pandas as pd


@app.command()
def plan(
    chapter: Annotated[str, typer.Argument(help="Name of a notebook in notebooks/, without .ipynb.")],
    profile: Annotated[str | None, typer.Option("--profile", help="The scale; by default the chapter's own.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter, as `lkd run` takes it."),
    ] = None,
    measure: Annotated[
        float | None,
        typer.Option("--measure", metavar="SECONDS", help="About how long steps are timed; 30 by default."),
    ] = None,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Time nothing.")] = False,
    gpu: Annotated[str, typer.Option("--gpu", help="The GPU that hours are estimated for.")] = "a100",
    gpus: Annotated[int, typer.Option("--gpus", help="How many of them share each batch.")] = 1,
    utilisation: Annotated[float, typer.Option("--utilisation", help="The share of its peak that is reached.")] = 0.3,
    listed: Annotated[bool, typer.Option("--list", help="Name each run that is asked for.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a chapter takes before it is run: runs, work, hours, memory, disk, and what is missing.

    Nothing is written to the store, and nothing is fetched.

    Example: lkd plan longer_training --profile imagenet --gpu h100 --gpus 8
    """
    from lkd.book.runner import check_chapter
    from lkd.planning import MEASURE, plan_chapter
    from lkd.planning.report import plain

    if no_measure and measure is not None:
        raise typer.BadParameter(f"--measure {measure:g} and --no-measure cannot both be meant")
    parameters = assignments("-p", parameter)
    if profile is not None and parameters.setdefault("profile", profile) != profile:
        raise typer.BadParameter(f"--profile is {profile}, and -p profile={parameters['profile']}: give one of them")
    seconds = None if no_measure else MEASURE if measure is None else measure
    with refusals():
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
        _show(table) if sys.stdout.isatty() else typer.echo(plain(table))


def _show(frame: "pd.DataFrame") -> None:
    """A table on a terminal."""
    from rich.console import Console
    from rich.table import Table

    from lkd.planning.report import shown

    texts = shown(frame)
    table = Table(*map(str, texts.columns))
    for row in texts.itertuples(index=False):
        table.add_row(*row)
    Console().print(table)
