"""Commands that train: distil a student, train a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkd.cli import completion
from lkd.cli.options import (
    Data,
    Fields,
    Json,
    Processes,
    Profile,
    Saved,
    Settings,
    Student,
    Teacher,
    Untrained,
    read_options,
)
from lkd.cli.root import app, assignments, errors_reported, say_json

if TYPE_CHECKING:
    from lkd.runs.store import Run


@app.command()
def distill(
    student: Student,
    teacher: Teacher,
    data: Data,
    objective: Annotated[
        str, typer.Option(help="The distillation method.", autocompletion=completion.objectives)
    ] = "nkd",
    profile: Profile = "small",
    setting: Settings = None,
    processes: Processes = 1,
    option: Fields = None,
    save: Saved = None,
    as_json: Json = False,
) -> None:
    """Distil a student from a teacher. A run in the store is not trained again.

    Example: lkd distill mini_resnet mini_slak --data digits --profile smoke --set epochs=2 --set temperature=2
    """
    import lkd
    from lkd.runs.resolve import resolve
    from lkd.runs.store import Store

    settings = _settings(setting)
    with errors_reported():
        store = Store()
        run = lkd.distill(
            resolve(student, store),
            resolve(teacher, store),
            data=data,
            objective=objective,
            profile=profile,
            num_processes=processes,
            options=read_options(option),
            **settings,
        )
        _finish(run, save, as_json)


@app.command()
def train(
    model: Untrained,
    data: Data,
    profile: Profile = "small",
    setting: Settings = None,
    processes: Processes = 1,
    option: Fields = None,
    save: Saved = None,
    as_json: Json = False,
) -> None:
    """Train a model from labels. A run in the store is not trained again.

    Example: lkd train mini_slak --data digits --profile smoke --set seed=1
    """
    import lkd
    from lkd.runs.resolve import resolve
    from lkd.runs.store import Store

    settings = _settings(setting)
    with errors_reported():
        run = lkd.train(
            resolve(model, Store()),
            data=data,
            profile=profile,
            num_processes=processes,
            options=read_options(option),
            **settings,
        )
        _finish(run, save, as_json)


_GIVEN_ELSEWHERE = {
    "student": "STUDENT", "model": "MODEL", "teacher": "TEACHER", "data": "--data", "objective": "--objective",
    "profile": "--profile", "num_processes": "--processes", "options": "--option", "store": "LKD_HOME",
}  # fmt: skip
"""Names that `--set` does not accept, with the argument to use instead."""


def _settings(given: list[str] | None) -> dict[str, Any]:
    """Parse `--set` into fields of the recipe and parameters of the objective."""
    settings = assignments("--set", given)
    for name in settings:
        if name in _GIVEN_ELSEWHERE:
            raise typer.BadParameter(f"--set does not take {name!r}: give it as {_GIVEN_ELSEWHERE[name]}")
    return settings


def _finish(run: "Run", save: Path | None, as_json: bool) -> None:
    """Save the trained model if requested, and print the result."""
    from lkd.export import export

    if save:
        export(run, save)
    recipe, metrics = run.recipe, dict(run.metrics)
    if as_json:
        place = {"run_id": recipe.run_id, "path": str(run.path), "saved": str(save) if save else None}
        say_json({**place, "metrics": metrics, "recipe": recipe.to_dict()})
        return
    method = f" distilled from {recipe.teacher_name} ({recipe.objective})" if recipe.teacher else ""
    typer.echo(f"run {recipe.run_id}: {recipe.student}{method} on {recipe.data}, seed {recipe.seed}")
    typer.echo(f"top-1: test {metrics['test_top1']:.2f} %, validation {metrics['val_top1']:.2f} %")
    if "teacher_top1" in metrics:
        typer.echo(f"top-1 of the teacher on the student's validation images: {metrics['teacher_top1']:.2f} %")
    typer.echo(f"{run.path}" + (f", saved to {save}" if save else ""))
