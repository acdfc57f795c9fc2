"""Arguments and options shared by several commands."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lkd.cli import completion
from lkd.cli.root import assignments

if TYPE_CHECKING:
    from lkd.engine.options import Options

_MODEL = "A timm name, a folder written by lkd.models.save_model, or the beginning of a run's id."
Student = Annotated[
    str, typer.Argument(metavar="STUDENT", help=f"The student. {_MODEL}", autocompletion=completion.models)
]
Untrained = Annotated[
    str, typer.Argument(metavar="MODEL", help=f"The model to train. {_MODEL}", autocompletion=completion.models)
]
Teacher = Annotated[
    str,
    typer.Argument(
        metavar="TEACHER",
        help=f"The teacher. {_MODEL} A teacher of the profile is trained first.",
        autocompletion=completion.models,
    ),
]
Trained = Annotated[
    str, typer.Argument(metavar="MODEL", help=f"A trained model. {_MODEL}", autocompletion=completion.models)
]
_DATA = "Images: digits, fashion_mnist, tiny_imagenet_32, cifar10_jpeg, folder:PATH, tar:PATH, hfds:NAME"
Data = Annotated[str, typer.Option(help=f"{_DATA}.", autocompletion=completion.data)]
OwnData = Annotated[
    str | None, typer.Option(help=f"{_DATA}; by default the run's images.", autocompletion=completion.data)
]
Profile = Annotated[
    str, typer.Option(help="Source of all settings that are not given.", autocompletion=completion.profiles)
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
Processes = Annotated[int, typer.Option(min=1, help="Number of processes, started by accelerate launch.")]
Saved = Annotated[Path | None, typer.Option(file_okay=False, help="Folder for the trained model, in timm's format.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read image files.")]
ImageSize = Annotated[int, typer.Option(min=0, help="Side of images in files; 0 for the model's.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def read_options(given: list[str] | None) -> "Options":
    """Parse `--option` into `lkd.Options`."""
    from lkd.engine.options import Options
    from lkd.util.checks import unknown

    fields = assignments("--option", given)
    known = [field.name for field in dataclasses.fields(Options)]
    for name in fields:
        if name not in known:
            raise KeyError(unknown("field of lkd.Options", name, known))
    return Options(**fields)
