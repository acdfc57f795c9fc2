"""Commands on the runs of this machine: `lkd store`."""

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkd.cli import completion
from lkd.cli.options import Json
from lkd.cli.root import Commands, app, errors_reported, report, say, say_json

if TYPE_CHECKING:
    from lkd.runs.catalogue import Entry

store = typer.Typer(cls=Commands)
app.add_typer(store, name="store", help="The runs of this machine: list, show, verify, compare, prune.")

_ID = "The id of a run, or its beginning."
RunId = Annotated[str, typer.Argument(metavar="RUN", help=_ID, autocompletion=completion.runs)]
RunIds = Annotated[list[str], typer.Argument(metavar="RUN...", help=_ID, autocompletion=completion.runs)]
Student = Annotated[str | None, typer.Option(help="Only runs of this student.", autocompletion=completion.models)]
Teacher = Annotated[str | None, typer.Option(help='Only runs with this teacher; "none" for runs without one.')]
Objective = Annotated[
    str | None, typer.Option(help="Only runs with this objective.", autocompletion=completion.objectives)
]
Data = Annotated[str | None, typer.Option(help="Only runs on this data set.", autocompletion=completion.data)]
_MIB = 2**20


@store.command("list")
def list_runs(
    student: Student = None,
    teacher: Teacher = None,
    objective: Objective = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List the finished runs, the latest last.

    Damaged runs and foreign files are named at the end, and the exit code is 1; hidden files are ignored.

    Example: lkd store list --student mini_resnet --objective nkd
    """
    from lkd.runs.catalogue import entries, select
    from lkd.util.files import home_folder

    with errors_reported():
        known, faults = entries(home_folder())
        found = select(known, student=student, teacher=teacher, objective=objective, data=data)
    rows = [_row(entry) for entry in found]
    if as_json:
        say_json(rows)
    else:
        _print_runs(rows)
    report(faults)


def _print_runs(rows: list[dict[str, Any]]) -> None:
    layout = (
        "{id:16}  {started:16}  {student:20}  {teacher:20}  {objective:9}  {data:16}  {seed:>4}  {top1:>6}  {size:>6}"
    )
    heads = {"id": "run", "top1": "top-1", "size": "MiB"}
    names = ("started", "student", "teacher", "objective", "data", "seed")
    typer.echo(layout.format(**heads, **{name: name for name in names}))
    for row in rows:
        shown = {**row, "started": row["started"][:16], "size": f"{row['bytes'] / _MIB:.1f}"}
        top1 = "" if row["test_top1"] is None else f"{row['test_top1']:.2f}"
        typer.echo(layout.format(**{**shown, "top1": top1}))


@store.command()
def show(run: RunId, as_json: Json = False) -> None:
    """Show one run: recipe fields that differ from the defaults, metrics, provenance, learning curve.

    Example: lkd store show 3f2a
    """
    from lkd.runs.catalogue import changed
    from lkd.runs.manifest import check_records
    from lkd.util.files import home_folder, read_history

    with errors_reported():
        entry = _entry(home_folder(), run)
        check_records(entry.path, entry.run_id, remedy := f"remove {entry.path}, and run it again")
        curve = read_history(entry.path / "history.csv", remedy)
    if as_json:
        about = {"recipe": changed(entry.recipe), "metrics": entry.metrics, "provenance": entry.provenance}
        say_json(
            {
                "id": entry.run_id,
                "path": str(entry.path),
                "bytes": entry.bytes,
                **about,
                "history": curve.to_dict("records"),
            }
        )
        return
    typer.echo(f"run {entry.run_id} ({entry.path}, {entry.bytes / _MIB:.1f} MiB)")
    for title, values in (
        ("recipe, where it differs from the defaults", changed(entry.recipe)),
        ("metrics", entry.metrics),
        ("provenance", entry.provenance),
    ):
        typer.echo(f"\n{title}")
        for name, value in values.items():
            typer.echo(f"  {name:24} {value}")
    typer.echo(f"\ncurve\n{curve.to_string(index=False)}")


@store.command()
def verify(as_json: Json = False) -> None:
    """Read every run, measurement, tape and checkpoint completely, and name the damaged ones.

    Runs from before lkd wrote manifests get one. Exits with 1 if there is damage.

    Example: lkd store verify
    """
    from lkd.engine.verify_store import verify as verified
    from lkd.runs.store import Store

    with errors_reported():
        found = [each for each in verified(Store())]
    if as_json:
        say_json({each.kind: {"count": each.total, "faults": each.faults} for each in found})
    else:
        for each in found:
            typer.echo(f"{each.kind:14} {each.total:6}, {len(each.faults)} damaged")
    report(fault for each in found for fault in each.faults)


@store.command()
def compare(runs: RunIds, as_json: Json = False) -> None:
    """Compare two or more runs: recipe fields that differ, metrics, and paired differences.

    A paired difference is the mean difference in test top-1, in points, between a run and the first one, with its 95 %
    interval, over all seeds for which the store has both: runs that differ from the two only in the seed are included.

    Example: lkd store compare 3f2a 90bc
    """
    from lkd.runs.catalogue import entries, recipe_differences
    from lkd.util.files import home_folder

    with errors_reported():
        folder = home_folder()
        found = [_entry(folder, run) for run in runs]
        if len({entry.run_id for entry in found}) < max(len(runs), 2):
            raise ValueError(f"give two or more runs, each once, got {', '.join(runs)}")
        fields = recipe_differences([entry.recipe for entry in found])
        known, faults = entries(folder)
        pairs = [_paired(found[0], other, known) for other in found[1:]]
    metrics = {name: [entry.metrics.get(name) for entry in found] for name in found[0].metrics}
    if as_json:
        say_json({"runs": [entry.run_id for entry in found], "recipe": fields, "metrics": metrics, "paired": pairs})
    else:
        _print_comparison({"run": {"": [entry.run_id for entry in found]}, "recipe": fields, "metrics": metrics}, pairs)
    report(faults)


def _print_comparison(tables: dict[str, dict[str, Any]], pairs: list[dict[str, Any]]) -> None:
    for title, table in tables.items():
        typer.echo(title)
        for name, values in table.items():
            typer.echo(f"  {name:24} " + "  ".join(f"{_brief(value):>16}" for value in values))
    typer.echo("paired difference of test top-1")
    for pair in pairs:
        typer.echo(f"  {pair['run']} over {pair['to']}: {_difference(pair)}")


@store.command()
def prune(
    student: Student = None,
    teacher: Teacher = None,
    objective: Objective = None,
    data: Data = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete the listed files.")] = False,
    as_json: Json = False,
) -> None:
    """List unused files and their sizes; with --yes, delete them.

    Without a filter: leftovers of killed processes, temporary files that no process uses, checkpoints of finished runs,
    and tapes of finished runs, if nothing is being trained or waits to be resumed. With a filter: the finished runs
    that match. Files of a run in training are never touched, nor is a complete run under a temporary name.

    A temporary file in lkd's home counts as unused a day after it was last written; a folder of lkd in TMPDIR once its
    process has ended.

    Damaged or foreign entries are kept and named at the end, and the exit code is 1.

    Example: lkd store prune --objective kd --yes
    """
    from lkd.runs.catalogue import entries, select
    from lkd.runs.prune import find_unused, removable_runs, remove
    from lkd.util.files import home_folder

    with errors_reported():
        here, wanted = home_folder(), {"student": student, "teacher": teacher, "objective": objective, "data": data}
        if any(value is not None for value in wanted.values()):
            known, faults = entries(here)
            found = removable_runs(here, select(known, **wanted))
        else:
            found, faults = find_unused(here)
        if not as_json:
            for waste in found:
                place = waste.path.relative_to(here) if waste.path.is_relative_to(here) else waste.path
                typer.echo(f"{waste.bytes:>14,} bytes  {waste.kind:30} {place}")
        removed = remove(here, found) if yes else []
    if as_json:
        rows = [{"kind": waste.kind, "path": str(waste.path), "bytes": waste.bytes} for waste in found]
        say_json({"found": rows, "bytes": _total(found), "deleted": [str(waste.path) for waste in removed]})
    elif yes:
        typer.echo(f"deleted: {_total(removed):,} bytes in {len(removed)} of {len(found)} places")
    else:
        typer.echo(f"{_total(found):,} bytes in {len(found)} places")
    if found and not yes:
        say("nothing was deleted: use --yes to delete")
    report(faults)


def _entry(folder: Any, beginning: str) -> "Entry":
    from lkd.runs.catalogue import entry, full_id

    return entry(folder / "runs" / full_id(folder, beginning))


def _row(entry: "Entry") -> dict[str, Any]:
    recipe = {name: entry.value(name) for name in ("student", "teacher", "objective", "data")}
    about = {"seed": entry.recipe["seed"], "test_top1": entry.metrics.get("test_top1"), "bytes": entry.bytes}
    return {"id": entry.run_id, "started": entry.started, **recipe, **about}


def _paired(first: "Entry", other: "Entry", known: "list[Entry]") -> dict[str, Any]:
    """Mean difference over shared seeds with its 95 % interval, NaN for one seed."""
    from lkd.metrics import spread
    from lkd.runs.catalogue import paired_differences

    pair: dict[str, Any] = {"run": other.run_id, "to": first.run_id}
    by_seed = paired_differences(first, other, known, "test_top1")
    if not by_seed:
        return {**pair, "seeds": [], "mean": None, "low": None, "high": None}
    found = spread(list(by_seed.values()))
    return {**pair, "seeds": list(by_seed), "mean": found.mean, "low": found.low, "high": found.high}


def _difference(pair: dict[str, Any]) -> str:
    if not pair["seeds"]:
        return "none: they differ only in the seed, or no seed has both"
    interval = "no interval" if math.isnan(pair["low"]) else f"[{pair['low']:+.2f}, {pair['high']:+.2f}]"
    return f"{pair['mean']:+.2f} points, {interval}, seeds {', '.join(map(str, pair['seeds']))}"


def _brief(value: Any) -> str:
    """A value as a short text: a teacher's recipe by its model, a float with six digits."""
    if isinstance(value, dict) and "student" in value:
        return str(value["student"])
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _total(found: Any) -> int:
    return sum(waste.bytes for waste in found)
