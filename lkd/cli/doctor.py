"""The command that examines this machine: `lkd doctor`."""

from typing import Any

import typer

from lkd.cli.options import Json
from lkd.cli.root import app, errors_reported, say_json


@app.command()
def doctor(as_json: Json = False) -> None:
    """Examine this machine: packages, devices, lkd's home, measured speed, and advice on what is slow or missing.

    Example: lkd doctor --json
    """
    from lkd.cli.machine import examine_machine

    with errors_reported():
        found = examine_machine()
    if as_json:
        say_json(found)
        return
    for title, values in found.items():
        typer.echo(f"\n{title}")
        for line in values if isinstance(values, list) else _lines(values):
            typer.echo(f"  {line}")


def _lines(values: dict[str, Any]) -> list[str]:
    return [f"{name:18} {_brief(name, value)}" for name, value in values.items()]


def _brief(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_brief(key, each)}" for key, each in value.items())
    if value is None or isinstance(value, bool):
        return "yes" if value else "no"
    if name in ("memory", "free", "written a second", "shared memory"):
        return f"{value / 1e9:.1f} GB"
    if isinstance(value, list):
        return "; ".join(_brief("", each) for each in value) or "none"
    if isinstance(value, float):
        return f"{value:.1f}" if name == "cores together" else f"{value:,.0f} images/s"
    return str(value)
