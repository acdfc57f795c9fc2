"""Commands on single runs."""

from pathlib import Path
from typing import Annotated

import typer

from lkd.cli.root import app, refusals


@app.command("run-recipe")
def run_recipe(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A recipe as JSON, of a run or of your own; or the id of a run."),
    ],
) -> None:
    """Carry out one recipe, here or in the processes that `accelerate launch` has started.

    An id is that of a run of this machine's store, or of a published one, as pages of the book show it.

    Example: accelerate launch --multi_gpu --num_processes 8 -m lkd run-recipe recipe.json
    """
    from lkd.engine.launch import carry_out_task
    from lkd.records import recipe_file

    with refusals():
        file = Path(recipe)
        carry_out_task(file if file.is_file() else recipe_file(recipe))
