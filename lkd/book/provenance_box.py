"""The box "How this page was made" at the end of a chapter, as MyST Markdown."""

import ast
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from lkd.runs.public_names import public
from lkd.util.markdown import code, fenced, markdown_table, plain
from lkd.util.values import read_value, typed

_GPU = "a100"
_SHORTENED = "Paths are shortened to their last names."


def how_made(name: str, metadata: Mapping[str, Any]) -> str:
    """The box for the chapter `name`, from the metadata of its executed copy."""
    from lkd.profiles import profile_name

    record, run = metadata["lkd"], metadata["papermill"]
    parameters, command = _public_parameters(record["parameters"]), _public_command(record["command"])
    started = datetime.fromisoformat(run["start_time"]).astimezone(UTC)
    parts = [
        f"Started {started:%Y-%m-%d %H:%M} UTC with profile {code(profile_name(record['profile']))}; "
        f"took **{duration(run['duration'])}**.",
        *_parameters(parameters),
        *([_SHORTENED] if command != record["command"] else []),
        "Run it again with",
        fenced(command, "bash"),
        *_papermill(name, parameters, public(run["parameters"])),
        *_plan(name, public(record["profile"])),
        "To repeat one of its runs, by its id on this page, in eight processes, set `LKD_HOME` to another folder:",
        fenced("accelerate launch --multi_gpu --num_processes 8 -m lkd run-recipe ID", "bash"),
        f"The notebook, without outputs: {{download}}`{name}.ipynb`.",
        _provenance(record["provenance"]),
    ]
    return fenced(":class-container: lkd-made\n\n" + "\n\n".join(parts), "{dropdown} How this page was made")


def duration(seconds: float) -> str:
    """A duration in its two largest units.

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


def _public_parameters(parameters: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The parameters without private paths."""
    return [
        {**about, "default": _public_value(about["default"]), "used": _public_value(about["used"])}
        for about in parameters
    ]


def _public_value(written: str) -> str:
    """A Python literal without private paths."""
    try:
        return repr(public(ast.literal_eval(written)))
    except (SyntaxError, ValueError):
        return public(written)


def _public_command(command: str) -> str:
    """A command without private paths."""
    try:
        words = shlex.split(command)
    except ValueError:
        return public(command)
    shown = list(map(_public_word, words))
    return command if shown == words else shlex.join(shown)


def _public_word(word: str) -> str:
    """A word of a command, possibly NAME=VALUE, without private paths."""
    name, equals, text = word.partition("=")
    value = read_value(text)
    if not equals or public(value) == value:
        return public(word)
    return f"{name}={typed(public(value))}"


def _parameters(parameters: Sequence[Mapping[str, str]]) -> list[str]:
    """The table of parameters; values that differ from the default are bold."""
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
    """The command for plain papermill, if parameters differ from their defaults.

    Parameters pass through JSON, as YAML cannot write nbformat's mappings.
    """
    names = [parameter["name"] for parameter in parameters if parameter["used"] != parameter["default"]]
    changed = json.loads(json.dumps({name: passed[name] for name in names if name in passed}))
    if not changed:
        return []
    line = yaml.safe_dump(changed, default_flow_style=True, sort_keys=False, width=float("inf")).strip()
    command = f"papermill notebooks/{name}.ipynb out.ipynb -y {shlex.quote(line)}"
    return ["or, with plain papermill,", fenced(command, "bash")]


def _plan(name: str, profile: str) -> Iterator[str]:
    """The published cost of a chapter's runs on a GPU, and the command that estimates it."""
    from lkd.planning.gpus import GPUS, UTILISATION, seconds_on
    from lkd.runs.published import published_flops
    from lkd.study.chapters import CHAPTERS

    if name not in CHAPTERS or not CHAPTERS[name].studies:
        return
    if flops := published_flops(profile).get(name):
        yield (
            f"All runs of the profile are {flops:.1e} floating-point operations: "
            f"{duration(seconds_on(_GPU, flops, half=False))} of one {GPUS[_GPU].name} at {UTILISATION:.0%} of its "
            "peak, a lower bound, as small networks do not reach that."
        )
    yield "To estimate the cost here and on a GPU:"
    yield fenced(f"lkd plan {name} --profile {shlex.quote(profile)} --gpu {_GPU}", "bash")


def _provenance(provenance: Mapping[str, Any]) -> str:
    """The table of software and hardware."""
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
