"""The command on studies of many runs: `lkd study`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkd.cli import completion
from lkd.cli.options import Fields, read_options
from lkd.cli.root import app, assignments, refusals, say

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
            help="Chapters that ask a study, as `lkd chapters` names them.",
            autocompletion=completion.chapters,
        ),
    ],
    profile: Annotated[str, typer.Option("--profile", help="The scale.")] = "small",
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar=_NAME_VALUE, help="A parameter of the chapters, a Python literal."),
    ] = None,
    executor: Annotated[str, typer.Option(help="Where workers run: local or submitit.")] = "local",
    workers: Annotated[
        int | None,
        typer.Option(help="How many; by default one for each GPU or else CPU, or a single job of submitit."),
    ] = None,
    option: Fields = None,
    cluster: Annotated[str, typer.Option(help="Where submitit's jobs go: slurm, or local to try it here.")] = "slurm",
    partition: Annotated[str | None, typer.Option(help="Slurm's partition.")] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option("--slurm", metavar=_NAME_VALUE, help="A setting of submitit for Slurm: gpus_per_node=1."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="For the jobs' scripts and logs, on a shared file system; by default the store.")
    ] = None,
) -> None:
    """Carry out all runs of chapters, beside any number of other workers on the same store.

    Workers take from the store what is left to do, one run at a time. Start and stop them as you like, here or on other
    machines: no run is done twice, and one whose worker died goes on in another from its last checkpoint. The chapters
    themselves, `lkd run`, then find their runs done.

    Exits with 1 where runs failed, after all others; with 2 for what cannot be run; with 130 when it was interrupted.

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
    with refusals():
        check_words("--slurm", settings)
        studies = {chapter: studies_of(chapter, profile, **parameters) for chapter in chapters}
        if lacking := [chapter for chapter in chapters if not studies[chapter]]:
            raise ValueError(f"chapter {lacking[0]!r} asks no study: `lkd run {lacking[0]}` carries it out")
        recipes = unique([recipe for asks in studies.values() for study in asks for recipe in study.recipes])
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
        raise ValueError(f"settings for Slurm ({', '.join(settings)}) need --executor submitit")
    return local_workers
