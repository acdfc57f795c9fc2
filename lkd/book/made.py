"""The box "How this page was made" at the end of a chapter, as MyST Markdown."""

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def how_made(name: str, metadata: Mapping[str, Any]) -> str:
    """The box of the chapter `name`, from the metadata of its executed copy."""
    record, run = metadata["lkd"], metadata["papermill"]
    started = datetime.fromisoformat(run["start_time"]).astimezone(UTC)
    parts = [
        f"Started {started:%Y-%m-%d %H:%M} UTC with profile {code(record['profile'])}; "
        f"took **{duration(run['duration'])}**.",
        *_parameters(record["parameters"]),
        "Run it again with",
        fenced(record["command"], "bash"),
        *_papermill(name, record["parameters"], run["parameters"]),
        _provenance(record["provenance"]),
    ]
    return fenced(":class-container: lkd-made\n\n" + "\n\n".join(parts), "{dropdown} How this page was made")


def code(text: str) -> str:
    """`text` as inline code that is safe in a cell of a Markdown table."""
    line = " ".join(text.split()).replace("|", r"\|")
    ticks = "`" * (_longest_run_of_ticks(line) + 1)
    return f"{ticks} {line} {ticks}" if line else "(empty)"


def plain(text: str) -> str:
    """`text` as plain words: no character of it is Markdown, MyST or HTML."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(text.split()))


def fenced(body: str, info: str) -> str:
    """`body` in a fence that is longer than any within it."""
    fence = "`" * max(3, _longest_run_of_ticks(body) + 1)
    return f"{fence}{info}\n{body}\n{fence}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> str:
    """A Markdown table of cells that are Markdown already; the columns at the places in `right` are set right."""
    rules = ["---:" if place in right else "---" for place in range(len(header))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rules, *rows])


def duration(seconds: float) -> str:
    """A duration as people say it: the two largest units.

    Example:
        >>> duration(3725.2)
        '1 h 2 min'
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _longest_run_of_ticks(text: str) -> int:
    """The length of the longest run of backticks in `text`."""
    return max(map(len, re.findall("`+", text)), default=0)


def _parameters(parameters: Sequence[Mapping[str, str]]) -> list[str]:
    """The table of parameters, with those that differ from their default in bold."""
    if not parameters:
        return ["It has no parameters."]
    rows = []
    for parameter in parameters:
        bold = "**" if parameter["used"] != parameter["default"] else ""
        used = f"{bold}{code(parameter['used'])}{bold}"
        rows.append((code(parameter["name"]), plain(parameter["help"]), code(parameter["default"]), used))
    table = markdown_table(("Parameter", "Meaning", "Default", "Used"), rows)
    return [table, "Bold: differs from the default."] if "**" in table else [table]


def _papermill(name: str, parameters: Iterable[Mapping[str, str]], passed: Mapping[str, Any]) -> list[str]:
    """How to run the chapter with papermill alone, if that takes parameters."""
    names = [parameter["name"] for parameter in parameters if parameter["used"] != parameter["default"]]
    changed = {name: passed[name] for name in names if name in passed}
    if not changed:
        return []
    line = yaml.safe_dump(changed, default_flow_style=True, sort_keys=False, width=float("inf")).strip()
    command = f"papermill notebooks/{name}.ipynb out.ipynb -y {shlex.quote(line)}"
    return ["or, with papermill alone,", fenced(command, "bash")]


def _provenance(provenance: Mapping[str, Any]) -> str:
    """The table of what the chapter was run with."""
    packages = ", ".join(f"{package} {version}" for package, version in provenance["packages"].items())
    rows = [
        ("lkd", f"{plain(provenance['lkd'])}, source {code(provenance['source'])}"),
        ("Python", plain(provenance["python"])),
        ("Packages", plain(packages)),
        ("Hardware", plain(provenance["hardware"])),
    ]
    if "threads" in provenance:
        rows.append(("Threads", str(provenance["threads"])))
    return markdown_table(("Made with", "Details"), rows)
