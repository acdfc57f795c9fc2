"""What a store holds, told from its files alone: finished runs by id, chosen, and compared."""

import re
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from lkd.recipe_fields import defaults
from lkd.util.checks import check_number, some, unknown
from lkd.util.files import read_json, reading

FILTERS = ("student", "teacher", "objective", "data")
"""By what runs are chosen."""

_FILES = ("recipe", "metrics", "provenance")
_NEEDED = ("data", "student", "teacher", "objective", "seed")
_ID = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class Entry:
    """A finished run, as its files tell of it.

    Attributes:
        path: its folder.
        recipe: what was run, as plain values; a field that was added to recipes later is not in it.
        metrics: final figures by name.
        provenance: what it comes from.
    """

    path: Path
    recipe: Mapping[str, Any]
    metrics: Mapping[str, float]
    provenance: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.path.name

    @property
    def teacher(self) -> str:
        """Name of the teacher's model; "none" without one."""
        teacher = self.recipe["teacher"]
        return teacher["student"] if isinstance(teacher, Mapping) else teacher or "none"

    @property
    def started(self) -> str:
        """When the run began, in UTC, as ISO 8601 has it; empty where nothing tells."""
        return self.provenance.get("started", "")

    @cached_property
    def bytes(self) -> int:
        """What it takes on disk, with what was measured on it."""
        return disk_bytes(self.path)

    def told(self, name: str) -> str:
        """What one of `FILTERS` looks at."""
        return self.teacher if name == "teacher" else self.recipe[name]


class Catalogue(NamedTuple):
    """What lies in the folder of a store's runs.

    Attributes:
        runs: the finished runs, the earliest first.
        faults: what could not be read as a run, in one line each: its path, the reason, and what to do.
    """

    runs: list[Entry]
    faults: list[str]


def entry(path: Path) -> Entry:
    """The finished run in a folder.

    Raises:
        FileNotFoundError, OSError, ValueError: one of its files is missing or damaged; names it and the remedy.
    """
    remedy = f"remove {path}, and run it again"
    recipe, metrics, provenance = (read_json(path / f"{name}.json", remedy) for name in _FILES)
    with reading(path / "recipe.json", "recipe", remedy):
        _check_recipe(recipe)
    with reading(path / "metrics.json", "figures of a run", remedy):
        for name, value in metrics.items():
            check_number(name, value, -sys.float_info.max)
    with reading(path / "provenance.json", "provenance of a run", remedy):
        _check_text("started", provenance.get("started", ""))
    return Entry(path, recipe, metrics, provenance)


def run_folders(folder: Path) -> list[Path]:
    """The folders of a store's finished runs: those whose name has the form of an id, 16 hexadecimal digits."""
    return [path for path in inside(folder / "runs") if _ID.fullmatch(path.name) and path.is_dir()]


def entries(folder: Path) -> Catalogue:
    """The finished runs in a store's folder, and what is wrong with the rest of its folder `runs`.

    Hidden files and folders are left aside: files of operating systems, and what a kill left half-written.

    Example:
        >>> from lkd.runs.catalogue import entries
        >>> from lkd.util.files import home
        >>> all(run.run_id for run in entries(home()).runs)
        True
    """
    runs, faults = [], []
    for path in sorted(inside(folder / "runs")):
        if not (_ID.fullmatch(path.name) and path.is_dir()):
            faults.append(f"{path} is no run: move it to another folder")
            continue
        try:
            runs.append(entry(path))
        except (OSError, ValueError) as error:
            if path.is_dir():  # it may have been removed in the meantime
                faults.append(str(error))
    return Catalogue(sorted(runs, key=lambda run: (run.started, run.run_id)), faults)


def chosen(known: Sequence[Entry], **wanted: str | None) -> list[Entry]:
    """The runs that have all of the values asked for.

    Args:
        known: runs to choose from.
        wanted: by name in `FILTERS`, the value; None for any.

    Raises:
        KeyError: a value that none of the runs has, with the nearest that one has.
    """
    for name, value in wanted.items():
        if value is not None and value not in (values := {entry.told(name) for entry in known}):
            raise KeyError(unknown(f"{name} of the runs in this store", value, values))
    asked = {name: value for name, value in wanted.items() if value is not None}
    return [entry for entry in known if all(entry.told(name) == value for name, value in asked.items())]


def full_id(folder: Path, beginning: str) -> str:
    """The id of the finished run that begins like this.

    Raises:
        KeyError: there is none, or more than one.
    """
    ids = [path.name for path in run_folders(folder) if path.name.startswith(beginning)]
    if not ids:
        raise KeyError(f"no run has an id that begins with {beginning!r}: `lkd store list` shows those of {folder}")
    if len(ids) > 1:
        raise KeyError(f"{len(ids)} runs have an id that begins with {beginning!r} ({some(ids)}): give more of it")
    return ids[0]


def changed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe that differ from their defaults; those of a teacher as "teacher.NAME".

    Example:
        >>> from lkd import Recipe
        >>> from lkd.runs.catalogue import changed
        >>> teacher = Recipe(data="digits", student="mini_slak", lr=0.005)
        >>> changed(Recipe(data="digits", student="mini_resnet", teacher=teacher, objective="kd", seed=2).to_dict())
        {'data': 'digits', 'student': 'mini_resnet', 'teacher.data': 'digits', 'teacher.student': 'mini_slak', \
'objective': 'kd', 'seed': 2}
    """
    known = defaults()
    found: dict[str, Any] = {}
    for name, value in recipe.items():
        if name == "teacher" and isinstance(value, Mapping):
            found |= {f"teacher.{inner}": each for inner, each in changed(value).items()}
        elif name not in known or value != known[name]:
            found[name] = value
    return found


def differences(recipes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The fields in which recipes differ, each with its value in every recipe.

    Fields within fields are named "teacher.lr" or "objective_args.alpha"; None stands for one that a recipe lacks.
    """
    return _apart([completed(recipe) for recipe in recipes])


def paired(first: Entry, second: Entry, known: Iterable[Entry], metric: str) -> dict[int, float]:
    """By how much a metric is larger in the second run than in the first, for every seed that the store has of both.

    Args:
        first, second: the runs.
        known: all runs of the store; those are paired that differ from `first` and `second` in their seed alone.
        metric: a key of their metrics.

    Returns:
        The difference by seed; empty where the two runs differ in their seed alone, so that they make no pair.
    """
    if _but_for_seed(first) == _but_for_seed(second):
        return {}
    both: list[dict[int, float]] = [{}, {}]
    for entry in known:
        for values, given in zip(both, (first, second), strict=True):
            if _but_for_seed(entry) == _but_for_seed(given) and metric in entry.metrics:
                values[entry.recipe["seed"]] = entry.metrics[metric]
    ones, others = both
    return {seed: others[seed] - ones[seed] for seed in sorted(ones.keys() & others.keys())}


def disk_bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder; without those that are removed in the meantime."""
    return sum(map(_bytes, (path, *path.rglob("*"))))


def _bytes(path: Path) -> int:
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_size if stat.S_ISREG(found.st_mode) else 0
    return 0


def inside(folder: Path) -> list[Path]:
    """What lies in a folder and is not hidden; nothing where the folder is missing."""
    with reading(folder, "folder", "allow this user to read it"), suppress(FileNotFoundError):
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    return []


def _check_recipe(recipe: Mapping[str, Any]) -> None:
    """Refuse what is no recipe, as far as a list of runs shows it."""
    if lacking := [name for name in _NEEDED if name not in recipe]:
        raise ValueError(f"it lacks {lacking[0]!r}")
    for name in ("data", "student", "objective"):
        _check_text(name, recipe[name])
    if not isinstance(recipe["seed"], int):
        raise TypeError(f"seed is {recipe['seed']!r}, not a whole number")
    teacher = recipe["teacher"]
    if teacher is not None:
        _check_text("teacher", teacher.get("student") if isinstance(teacher, Mapping) else teacher)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, not a text")


def completed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with all fields of today's recipes, and its teacher likewise."""
    teacher = recipe["teacher"]
    return {**defaults(), **recipe, "teacher": completed(teacher) if isinstance(teacher, Mapping) else teacher}


def _but_for_seed(entry: Entry) -> dict[str, Any]:
    return {**completed(entry.recipe), "seed": None}


def _apart(values: Sequence[Mapping[str, Any]], prefix: str = "") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name in dict.fromkeys(name for each in values for name in each):
        ours = [each.get(name) for each in values]
        mappings = [value for value in ours if isinstance(value, Mapping)]
        if len(mappings) == len(ours):
            found |= _apart(mappings, f"{prefix}{name}.")
        elif any(value != ours[0] for value in ours[1:]):
            found[f"{prefix}{name}"] = ours
    return found
