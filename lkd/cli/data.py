"""Commands on data: `lkd data`."""

from typing import Annotated

import typer

from lkd.cli import completion
from lkd.cli.options import Json
from lkd.cli.root import Commands, app, errors_reported, say_json

data = typer.Typer(cls=Commands)
app.add_typer(data, name="data", help="The data sets of this machine: list, check.")


@data.command("list")
def list_data(as_json: Json = False) -> None:
    """List the data sets: name, location or how to get it, numbers of images and classes.

    folder:PATH, tar:PATH and hfds:NAME name your own images; the page "Distil at any scale" describes their layout. A
    folder in `data` of lkd's home is listed by its name.

    Example: lkd data list --json
    """
    from lkd.data.inspection import list_data_sets

    with errors_reported():
        found = list_data_sets()
    if as_json:
        say_json([row._asdict() for row in found])
        return
    for row in found:
        counts = ", ".join(f"{count:,} {split}" for split, count in (row.images or {}).items())
        typer.echo(f"{row.name:24} {f'{row.classes} classes; {counts}; ' if row.images else ''}{row.place}")
    typer.echo("folder:PATH, tar:PATH, hfds:NAME: your own images")


@data.command()
def check(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="folder:PATH, tar:PATH or hfds:NAME.", autocompletion=completion.data)
    ],
    threads: Annotated[int, typer.Option(min=1, help="Threads that decode images at the same time.")] = 4,
    as_json: Json = False,
) -> None:
    """Check a data set of image files: its splits have the same classes, and every image can be read.

    Lists ignored files, and counts images with pixels that need care. Unreadable images are named, and the exit code
    is 1.

    Example: lkd data check folder:/data/imagenet --threads 16
    """
    from lkd.data import Files, load
    from lkd.data.decoding import CARE
    from lkd.data.inspection import check_images

    with errors_reported():
        files = load(name)
        if not isinstance(files, Files):
            raise ValueError(f"{name!r} is not a data set of files: its content is checked whenever it is loaded")
        found = check_images(files, threads)
    if as_json:
        say_json(found._asdict())
    else:
        typer.echo(found.account)
        order = "; ImageNet-1k's, in the order of pretrained networks" if found.imagenet else ""
        typer.echo(f"{len(found.classes)} classes{order}")
        for split, counts in found.images.items():
            typer.echo(f"{split}: {sum(counts):,} images, {min(counts):,} to {max(counts):,} of a class")
        if found.care:
            typer.echo("pixels: " + ", ".join(f"{count:,} {CARE[kind]}" for kind, count in found.care.items()))
        for path, problem in found.unreadable.items():
            typer.echo(f"unreadable: {path} ({problem})")
    raise typer.Exit(int(bool(found.unreadable)))
