"""Commands on tapes: `lkd tape`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkd.cli.options import Json
from lkd.cli.root import Commands, app, errors_reported, report, say, say_json

if TYPE_CHECKING:
    from lkd.engine.tape import Tape

tapes = typer.Typer(cls=Commands)
app.add_typer(tapes, name="tape", help="Recorded outputs of teachers: list, verify.")


@tapes.command("list")
def list_tapes(as_json: Json = False) -> None:
    """List the tapes of this machine's store: name, teacher, size, and recorded share.

    Damaged tapes and foreign files are named at the end, and the exit code is 1.

    Example: lkd tape list
    """
    with errors_reported():
        found, faults = _tapes()
        rows = [_row(tape) for tape in found]
    if as_json:
        say_json(rows)
    else:
        for row in rows:
            typer.echo(f"{row['name']}  {row['teacher']}  {row['bytes'] / 2**20:,.1f} MiB  {row['recorded']:.0%}")
    report(faults)


@tapes.command("verify")
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="TAPE", help="A tape's name, or its beginning; all by default.")
    ] = None,
    batches: Annotated[int, typer.Option(min=1, help="Number of batches to recompute for each tape.")] = 4,
    as_json: Json = False,
) -> None:
    """Recompute some batches with the teachers, and compare them with the tapes.

    Exits with 1 if a record differs by more than rounding, is damaged or missing.

    Example: lkd tape verify --batches 16
    """
    from lkd.engine.tape_tools import verify_tape
    from lkd.runs.store import Store

    with errors_reported():
        found, faults = _tapes()
        chosen = [tape for tape in found if tape.folder.name.startswith(name or "")]
        if name and not chosen:
            raise KeyError(f"unknown tape {name!r}: `lkd tape list` lists all")
    rows: list[dict[str, Any]] = []
    for tape in chosen:
        try:
            rows.append({"name": tape.folder.name, **verify_tape(tape, Store(), batches)._asdict(), "fault": None})
        except (KeyError, OSError, ValueError) as error:
            fault = error.args[0] if isinstance(error, KeyError) else str(error)
            rows.append({"name": tape.folder.name, "difference": None, "rounding": None, "fault": fault})
        if not as_json:
            _print_row(rows[-1])
    if as_json:
        say_json(rows)
    report(faults)
    raise typer.Exit(int(any(row["fault"] or row["difference"] > row["rounding"] for row in rows)))


def _print_row(row: dict[str, Any]) -> None:
    if row["fault"]:
        say(row["fault"])
    else:
        typer.echo(f"{row['name']}  largest difference {row['difference']:g} (rounding: {row['rounding']:.1g})")


def _row(tape: "Tape") -> dict[str, Any]:
    teacher = tape.manifest.get("recipe", {}).get("teacher")
    name = teacher["student"] if isinstance(teacher, dict) else teacher or "unknown"
    share = tape.recorded() / tape.records.size
    return {"name": tape.folder.name, "teacher": name, "bytes": tape.records.nbytes, "recorded": share}


def _tapes() -> "tuple[list[Tape], list[str]]":
    """The tapes of the store, and a line for each damaged or foreign entry in their folder."""
    from lkd.engine.tape import Tape
    from lkd.runs.catalogue import visible
    from lkd.util.files import home_folder

    tapes, faults = [], []
    for path in sorted(visible(home_folder() / "tapes")):
        if not path.is_dir():
            faults.append(f"{path} is not a tape: move it to another folder")
            continue
        try:
            tapes.append(Tape(path))
        except (OSError, ValueError) as error:
            faults.append(str(error))
    return tapes, faults
