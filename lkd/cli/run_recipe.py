"""Commands on single runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lkd.cli.root import app, errors_reported
from lkd.util.files import read_json

if TYPE_CHECKING:
    from lkd.recipe import Recipe


@app.command("run-recipe")
def run_recipe(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A recipe as a JSON file, or the id of a run."),
    ],
) -> None:
    """Run one recipe, here or in the processes started by `accelerate launch`.

    The run is in this machine's store or published, as shown on the pages of the book. A file contains a recipe and
    nothing else; recipes of earlier versions of lkd keep their meaning.

    Example: accelerate launch --multi_gpu --num_processes 8 -m lkd run-recipe recipe.json
    """
    import lkd
    from lkd.runs.published import recipe_file

    with errors_reported():
        file = Path(recipe)
        lkd.run(_recipe_in(file if file.is_file() else recipe_file(recipe)))


def _recipe_in(file: Path) -> "Recipe":
    """The recipe in a file, which may be from anyone; other content is refused."""
    from lkd.recipe import Recipe

    values = read_json(file, "give the recipe.json of a run, or one of your own")
    if not {"data", "student"} <= values.keys():
        raise ValueError(
            f'{file} is not a recipe: it must be an object such as {{"data": "digits", "student": "mini_vit"}}'
        )
    return Recipe.from_stored(values)
