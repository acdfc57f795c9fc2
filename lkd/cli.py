"""The `lkd` command."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)


@app.callback()
def lkd() -> None:
    """Knowledge distillation with large-kernel teachers: rerun a chapter of the book with your own parameters."""


@app.command()
def run(
    chapters: Annotated[list[str], typer.Argument(help="Names of notebooks in notebooks/, without .ipynb.")],
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter and its value, a Python literal."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the executed notebook goes; by default into the book.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Execute even what has been executed already.")] = False,
) -> None:
    """Execute chapters. Runs that the store has are not trained again.

    Example: lkd run logit_kd -p seeds='[0]' -p teachers='["mini_slak"]'
    """
    from lkd.book.chapters import ChapterError, check_chapter, run_chapter

    if output and len(chapters) > 1:
        raise typer.BadParameter(f"--output is for one chapter, got {len(chapters)}")
    if output and output.suffix != ".ipynb":
        raise typer.BadParameter(f"--output is a notebook and ends in .ipynb, got {output}")
    parameters = dict(_assignment(text) for text in parameter or [])
    try:
        for chapter in chapters:
            check_chapter(chapter, parameters)
        for chapter in chapters:
            typer.echo(run_chapter(chapter, parameters, output=output, again=again))
    except ChapterError as error:
        typer.secho(error, err=True)
        raise typer.Exit(1) from error
    except (KeyError, OSError) as error:
        typer.secho(f"lkd: {error.args[0] if isinstance(error, KeyError) else error}", err=True)
        raise typer.Exit(2) from error


@app.command("run-recipe")
def run_recipe(
    file: Annotated[Path, typer.Argument(help="A recipe as JSON: the recipe.json of a run, or one of your own.")],
) -> None:
    """Carry out one recipe, here or in the processes that `accelerate launch` has started.

    Example: accelerate launch --num_processes 8 -m lkd run-recipe recipe.json
    """
    from lkd.engine.launch import carry_out_task

    try:
        carry_out_task(file)
    except (KeyError, TypeError, ValueError, OSError) as error:
        typer.secho(f"lkd: {error.args[0] if isinstance(error, KeyError) else error}", err=True)
        raise typer.Exit(2) from error


def _assignment(text: str) -> tuple[str, object]:
    from lkd.book.chapters import read_value

    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise typer.BadParameter(f"-p takes NAME=VALUE, got {text!r}")
    return name, read_value(value)
