"""List, select and compare the finished runs of a store, without PyTorch."""

import re
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from lkd.recipe_fields import completed, defaults
from lkd.runs.manifest import check_records
from lkd.util.checks import check_number, some, unknown
from lkd.util.files import read_json, reading

FILTERS = ("student", "teacher", "objective", "data")
"""Recipe fields for selecting runs."""

_NEEDED = ("data", "student", "teacher", "objective", "seed")
_RUN_ID = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class Entry:
    """A finished run, read from its files.

    Attributes:
        path: the run's folder.
        recipe: the recipe as plain values, without fields that were added to recipes later.
        metrics: final metrics by name.
        provenance: versions, hardware and start of the run.
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
        """Start of the run in UTC, in ISO 8601 format; empty if it was not recorded."""
        return self.provenance.get("started", "")

    @cached_property
    def bytes(self) -> int:
        """Size on disk, including measurements of the run."""
        return disk_bytes(self.path)

    def value(self, name: str) -> str:
        """The value of the run for a name in `FILTERS`."""
        return self.teacher if name == "teacher" else self.recipe[name]


class Catalogue(NamedTuple):
    """The content of a store's folder `runs`.

    Attributes:
        runs: the finished runs, earliest first.
        faults: one line per unreadable run or foreign file, with its path, the reason and the remedy.
    """

    runs: list[Entry]
    faults: list[str]


def entry(path: Path) -> Entry:
    """Read the finished run in a folder.

    Raises:
        FileNotFoundError, OSError, ValueError: a file is missing or damaged; names it and the remedy.
    """
    remedy = f"remove {path}, and run it again"
    recipe, provenance = (read_json(path / f"{name}.json", remedy) for name in ("recipe", "provenance"))
    with reading(path / "recipe.json", "recipe", remedy):
        _check_recipe(recipe)
    with reading(path / "provenance.json", "provenance of a run", remedy):
        _check_text("started", provenance.get("started", ""))
    return Entry(path, recipe, read_metrics(path, remedy), provenance)


def read_metrics(run: Path, remedy: str) -> dict[str, float]:
    """The metrics in a run's folder.

    Raises:
        FileNotFoundError, OSError, ValueError: see `reading`; also for a value that is not a finite number.
    """
    metrics = read_json(run / "metrics.json", remedy)
    with reading(run / "metrics.json", "metrics of a run", remedy):
        for name, value in metrics.items():
            check_number(name, value, -sys.float_info.max)
        return {name: float(value) for name, value in metrics.items()}


def run_folders(folder: Path) -> list[Path]:
    """The folders of a store's finished runs, named by 16 hexadecimal digits."""
    return [path for path in visible(folder / "runs") if _RUN_ID.fullmatch(path.name) and path.is_dir()]


def entries(folder: Path) -> Catalogue:
    """The finished runs in a store's folder, and the faults of its folder `runs`.

    Hidden files and folders are ignored: they are the operating system's, or were left unfinished by a killed process.

    Example:
        >>> from lkd.runs.catalogue import entries
        >>> from lkd.util.files import home
        >>> all(run.run_id for run in entries(home()).runs)
        True
    """
    runs, faults = [], []
    for path in sorted(visible(folder / "runs")):
        if not (_RUN_ID.fullmatch(path.name) and path.is_dir()):
            faults.append(f"{path} is not a run: move it to another folder")
            continue
        try:
            runs.append(entry(path))
        except (OSError, ValueError) as error:
            if path.is_dir():  # another process may have removed it
                faults.append(str(error))
    return Catalogue(sorted(runs, key=lambda run: (run.started, run.run_id)), faults)


def unfinished_runs(folder: Path, ids: Iterable[str]) -> tuple[set[str], list[str]]:
    """The ids without an intact run in a store's folder, and one line per damaged run, with the remedy."""
    missing, faults = set(), []
    for run_id in sorted(ids):
        path = folder / "runs" / run_id
        try:
            if not path.is_dir():
                missing.add(run_id)
            else:
                check_records(path, run_id, f"remove {path}, and run it again")
        except (OSError, ValueError) as error:
            missing.add(run_id)
            faults.append(str(error))
    return missing, faults


def select(known: Sequence[Entry], **wanted: str | None) -> list[Entry]:
    """The runs with all of the given values.

    Args:
        known: runs to select from.
        wanted: values by name in `FILTERS`; None for any.

    Raises:
        KeyError: no run has the value; names the nearest existing value.
    """
    for name, value in wanted.items():
        if value is not None and value not in (values := {entry.value(name) for entry in known}):
            raise KeyError(unknown(f"{name} of the runs in this store", value, values))
    given = {name: value for name, value in wanted.items() if value is not None}
    return [entry for entry in known if all(entry.value(name) == value for name, value in given.items())]


def full_id(folder: Path, beginning: str) -> str:
    """The id of the only finished run with this prefix.

    Raises:
        KeyError: no run, or several runs, have the prefix.
    """
    ids = [path.name for path in run_folders(folder) if path.name.startswith(beginning)]
    if not ids:
        raise KeyError(f"no run has an id that begins with {beginning!r}: `lkd store list` lists the runs of {folder}")
    if len(ids) > 1:
        raise KeyError(f"{len(ids)} runs have an id that begins with {beginning!r} ({some(ids)}): give more digits")
    return ids[0]


def changed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe that differ from their defaults; fields of a teacher as "teacher.NAME".

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


def recipe_differences(recipes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The fields that differ between recipes, each with its value in every recipe.

    Nested fields are named "teacher.lr" or "objective_args.alpha"; None marks a field that a recipe does not have.
    """
    return _differing_fields([completed(recipe) for recipe in recipes])


def paired_differences(first: Entry, second: Entry, known: Iterable[Entry], metric: str) -> dict[int, float]:
    """Differences of a metric between two runs, second minus first, for each seed available for both.

    Args:
        known: all runs of the store; runs that differ from `first` or `second` only in their seed are paired.

    Returns:
        The difference by seed; empty if the two runs differ only in their seed.
    """
    if _without_seed(first) == _without_seed(second):
        return {}
    both: list[dict[int, float]] = [{}, {}]
    for entry in known:
        for values, given in zip(both, (first, second), strict=True):
            if _without_seed(entry) == _without_seed(given) and metric in entry.metrics:
                values[entry.recipe["seed"]] = entry.metrics[metric]
    ones, others = both
    return {seed: others[seed] - ones[seed] for seed in sorted(ones.keys() & others.keys())}


def disk_bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder, ignoring files that are removed meanwhile."""
    return sum(map(_file_bytes, (path, *path.rglob("*"))))


def _file_bytes(path: Path) -> int:
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_size if stat.S_ISREG(found.st_mode) else 0
    return 0


def visible(folder: Path) -> list[Path]:
    """The entries of a folder that are not hidden; empty if the folder is missing."""
    with reading(folder, "folder", "allow this user to read it"), suppress(FileNotFoundError):
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    return []


def _check_recipe(recipe: Mapping[str, Any]) -> None:
    """Check the recipe fields that are shown in lists of runs."""
    if missing := [name for name in _NEEDED if name not in recipe]:
        raise ValueError(f"{missing[0]!r} is missing")
    for name in ("data", "student", "objective"):
        _check_text(name, recipe[name])
    if not isinstance(recipe["seed"], int):
        raise TypeError(f"seed is {recipe['seed']!r}, not a whole number")
    teacher = recipe["teacher"]
    if teacher is not None:
        _check_text("teacher", teacher.get("student") if isinstance(teacher, Mapping) else teacher)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, not a string")


def _without_seed(entry: Entry) -> dict[str, Any]:
    return {**completed(entry.recipe), "seed": None}


def _differing_fields(values: Sequence[Mapping[str, Any]], prefix: str = "") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name in dict.fromkeys(name for each in values for name in each):
        ours = [each.get(name) for each in values]
        mappings = [value for value in ours if isinstance(value, Mapping)]
        if len(mappings) == len(ours):
            found |= _differing_fields(mappings, f"{prefix}{name}.")
        elif any(value != ours[0] for value in ours[1:]):
            found[f"{prefix}{name}"] = ours
    return found
