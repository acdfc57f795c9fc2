"""The command that trains the runs of chapters: `lkd study`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkd.cli import completion
from lkd.cli.options import Fields, read_options
from lkd.cli.root import app, assignments, errors_reported, say

if TYPE_CHECKING:
    from lkd.engine.workers import Start

_EXECUTORS = ("local", "submitit")
_NAME_VALUE = "NAME=VALUE"


@app.command()
def study(
    chapters: Annotated[
        list[str],
        typer.Argument(
            metavar="CHAPTER...",
            help="Names of chapters, as in `lkd chapters`.",
            autocompletion=completion.chapters,
        ),
    ],
    profile: Annotated[str, typer.Option("--profile", help="The scale.")] = "small",
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar=_NAME_VALUE, help="A parameter of the chapters, a Python literal."),
    ] = None,
    executor: Annotated[str, typer.Option(help="Where the workers run: local or submitit.")] = "local",
    workers: Annotated[
        int | None,
        typer.Option(help="Number of workers; by default one per GPU or else CPU, or a single submitit job."),
    ] = None,
    option: Fields = None,
    cluster: Annotated[str, typer.Option(help="Target of submitit's jobs: slurm, or local for a trial.")] = "slurm",
    partition: Annotated[str | None, typer.Option(help="Slurm's partition.")] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option("--slurm", metavar=_NAME_VALUE, help="A setting of submitit for Slurm: gpus_per_node=1."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Shared folder for the jobs' scripts and logs; by default in the store.")
    ] = None,
) -> None:
    """Train all runs of chapters, together with any number of other workers on the same store.

    Workers take the remaining runs from the store, one at a time. Start and stop them at any time, here or on other
    machines: no run is done twice, and if a worker dies another one resumes its run from the last checkpoint. Then
    execute the chapters with `lkd run`.

    Exit codes: 1 if some runs failed, after all others; 2 if the request is refused; 130 if interrupted.

    Example: lkd study logit_kd --profile small --workers 2

    Example: lkd study logit_kd --profile imagenet --executor submitit --workers 8 --partition gpu
    --slurm gpus_per_node=1 --slurm cpus_per_task=12 --option workers=10
    """
    from lkd.engine.workers import execute_all
    from lkd.paper.verdict_rows import judge_runs
    from lkd.runs.store import Store
    from lkd.study.chapters import studies_of
    from lkd.study.grid import unique
    from lkd.util.checks import check_words

    parameters, settings = assignments("-p", parameter), assignments("--slurm", slurm)
    if "profile" in parameters:
        raise typer.BadParameter("the scale is given as --profile, not as -p profile=...")
    if partition:
        settings["partition"] = partition
    with errors_reported():
        check_words("--slurm", settings)
        studies = {chapter: studies_of(chapter, profile, **parameters) for chapter in chapters}
        if without := [chapter for chapter in chapters if not studies[chapter]]:
            raise ValueError(f"chapter {without[0]!r} has no study: execute it with `lkd run {without[0]}`")
        recipes = unique([recipe for each in studies.values() for study in each for recipe in study.recipes])
        store, options = Store(), read_options(option)
        start = _start(executor, cluster, folder or store.folder / "jobs", settings)
        try:
            runs = execute_all(recipes, store, workers, options=options, start=start)
        except RuntimeError as error:
            say(error)
            raise typer.Exit(1) from error
    judge_runs(profile, store.folder)
    typer.echo(f"{len(runs)} runs of {', '.join(chapters)} are in {store.folder}")


def _start(executor: str, cluster: str, folder: Path, settings: Mapping[str, Any]) -> "Start":
    from lkd.engine.slurm import Submitted
    from lkd.engine.workers import local_workers
    from lkd.util.checks import unknown

    if executor not in _EXECUTORS:
        raise KeyError(unknown("executor", executor, _EXECUTORS))
    if executor == "submitit":
        return Submitted(folder, cluster, settings)
    if settings:
        raise ValueError(f"settings for Slurm ({', '.join(settings)}) require --executor submitit")
    return local_workers
