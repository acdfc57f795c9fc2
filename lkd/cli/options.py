"""Arguments and options that several commands have."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lkd.cli import completion
from lkd.cli.root import assignments

if TYPE_CHECKING:
    from lkd.engine.options import Options

_MODEL = "A timm name, a folder that lkd.models.save_model wrote, or how the id of a run begins."
Student = Annotated[
    str, typer.Argument(metavar="STUDENT", help=f"Who learns. {_MODEL}", autocompletion=completion.models)
]
Untrained = Annotated[
    str, typer.Argument(metavar="MODEL", help=f"Who learns. {_MODEL}", autocompletion=completion.models)
]
Teacher = Annotated[
    str,
    typer.Argument(
        metavar="TEACHER",
        help=f"Who teaches. {_MODEL} A teacher of the profile is trained first.",
        autocompletion=completion.models,
    ),
]
Trained = Annotated[
    str, typer.Argument(metavar="MODEL", help=f"A trained model. {_MODEL}", autocompletion=completion.models)
]
Data = Annotated[
    str,
    typer.Option(
        help="Images: digits, fashion_mnist, folder:PATH, tar:PATH, hfds:NAME.", autocompletion=completion.data
    ),
]
OwnData = Annotated[
    str | None,
    typer.Option(
        help="Images: digits, fashion_mnist, folder:PATH, tar:PATH, hfds:NAME; by default those of the run.",
        autocompletion=completion.data,
    ),
]
Profile = Annotated[
    str, typer.Option(help="Where settings come from that are not given.", autocompletion=completion.profiles)
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A field of the recipe, or a parameter of the objective."),
]
Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help='A field of lkd.Options: workers=8, channels_last=True, trackers=["tensorboard"].',
    ),
]
Processes = Annotated[int, typer.Option(min=1, help="Processes that share the work, by accelerate launch.")]
Saved = Annotated[
    Path | None, typer.Option(file_okay=False, help="A folder that the trained model is written to, for lkd and timm.")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read images in files ahead.")]
ImageSize = Annotated[int, typer.Option(min=0, help="Side of images in files; 0 for the model's own.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON.")]


def read_options(given: list[str] | None) -> "Options":
    """The options that are typed as fields."""
    from lkd.engine.options import Options
    from lkd.util.checks import unknown

    fields = assignments("--option", given)
    known = [field.name for field in dataclasses.fields(Options)]
    for name in fields:
        if name not in known:
            raise KeyError(unknown("field of lkd.Options", name, known))
    return Options(**fields)
