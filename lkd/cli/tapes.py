"""Commands on tapes: `lkd tape`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkd.cli.options import Json
from lkd.cli.root import Commands, app, refusals, say, say_json

if TYPE_CHECKING:
    from lkd.engine.tape import Tape

tapes = typer.Typer(cls=Commands)
app.add_typer(tapes, name="tape", help="The teachers' outputs that are kept along streams.")


@tapes.command("list")
def list_tapes(as_json: Json = False) -> None:
    """The tapes of this machine's store: name, teacher, size, and how much of it is recorded.

    Example: lkd tape list
    """
    with refusals():
        rows = [_row(tape) for tape in _tapes()]
    if as_json:
        say_json(rows)
        return
    for row in rows:
        typer.echo(f"{row['name']}  {row['teacher']}  {row['bytes'] / 2**20:,.1f} MiB  {row['recorded']:.0%}")


@tapes.command("verify")
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="TAPE", help="A tape's name, or how it begins; all by default.")
    ] = None,
    batches: Annotated[int, typer.Option(min=1, help="How many batches of each are asked for again.")] = 4,
    as_json: Json = False,
) -> None:
    """Ask teachers again for some batches, and compare with what their tapes hold.

    Exits with 1 where a record differs by more than rounding, is damaged or missing.

    Example: lkd tape verify --batches 16
    """
    from lkd.engine.recording import verify_tape
    from lkd.store import Store

    with refusals():
        chosen = [tape for tape in _tapes() if tape.folder.name.startswith(name or "")]
        if name and not chosen:
            raise KeyError(f"no tape is called {name!r}: `lkd tape list` names those there are")
    rows: list[dict[str, Any]] = []
    for tape in chosen:
        try:
            rows.append({"name": tape.folder.name, **verify_tape(tape, Store(), batches)._asdict(), "fault": None})
        except (ValueError, KeyError) as error:
            rows.append({"name": tape.folder.name, "difference": None, "rounding": None, "fault": error.args[0]})
        if not as_json:
            _tell(rows[-1])
    if as_json:
        say_json(rows)
    raise typer.Exit(int(any(row["fault"] or row["difference"] > row["rounding"] for row in rows)))


def _tell(row: dict[str, Any]) -> None:
    if row["fault"]:
        say(row["fault"])
    else:
        typer.echo(f"{row['name']}  largest difference {row['difference']:g} (rounding: {row['rounding']:.1g})")


def _row(tape: "Tape") -> dict[str, Any]:
    teacher = tape.manifest["recipe"]["teacher"]
    name = teacher if isinstance(teacher, str) else teacher["student"]
    share = tape.recorded() / tape.records.size
    return {"name": tape.folder.name, "teacher": name, "bytes": tape.manifest["bytes"], "recorded": share}


def _tapes() -> "list[Tape]":
    from lkd.engine.tape import Tape
    from lkd.store import Store

    return [Tape(path.parent) for path in sorted((Store().folder / "tapes").glob("[!.]*/manifest.json"))]
