"""What a store holds, told from its files alone: finished runs by id, chosen, and compared."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lkd.checks import some, unknown
from lkd.files import read_json

FILTERS = ("student", "teacher", "objective", "data")
"""By what runs are chosen."""

_FILES = ("recipe", "metrics", "provenance")
_NEEDED = ("data", "student", "teacher", "objective", "seed")


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


def entry(path: Path) -> Entry:
    """The finished run in a folder.

    Raises:
        FileNotFoundError, OSError, ValueError: one of its files is missing or damaged; names it and the remedy.
    """
    remedy = f"remove {path}, and run it again"
    found = Entry(path, *(read_json(path / f"{name}.json", remedy) for name in _FILES))
    if lacks := [name for name in _NEEDED if name not in found.recipe]:
        raise ValueError(f"{path / 'recipe.json'} is no recipe, it lacks {lacks[0]!r}: {remedy}")
    return found


def entries(folder: Path) -> list[Entry]:
    """The finished runs in a store's folder, the earliest first.

    Raises:
        FileNotFoundError, OSError, ValueError: a run whose files are damaged; says which.

    Example:
        >>> from lkd.catalogue import entries
        >>> from lkd.files import home
        >>> all(run.run_id for run in entries(home()))
        True
    """
    return sorted(map(entry, (folder / "runs").glob("[!.]*")), key=lambda run: (run.started, run.run_id))


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
    ids = [path.name for path in (folder / "runs").glob("[!.]*") if path.name.startswith(beginning)]
    if not ids:
        raise KeyError(f"no run has an id that begins with {beginning!r}: `lkd store list` shows those of {folder}")
    if len(ids) > 1:
        raise KeyError(f"{len(ids)} runs have an id that begins with {beginning!r} ({some(ids)}): give more of it")
    return ids[0]


def changed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe that differ from their defaults; those of a teacher as "teacher.NAME".

    Example:
        >>> from lkd import Recipe
        >>> from lkd.catalogue import changed
        >>> teacher = Recipe(data="digits", student="mini_slak", lr=0.005)
        >>> changed(Recipe(data="digits", student="mini_resnet", teacher=teacher, objective="kd", seed=2).to_dict())
        {'data': 'digits', 'student': 'mini_resnet', 'teacher.data': 'digits', 'teacher.student': 'mini_slak', \
'objective': 'kd', 'seed': 2}
    """
    defaults = _defaults()
    found: dict[str, Any] = {}
    for name, value in recipe.items():
        if name == "teacher" and isinstance(value, Mapping):
            found |= {f"teacher.{inner}": each for inner, each in changed(value).items()}
        elif name not in defaults or value != defaults[name]:
            found[name] = value
    return found


def differences(recipes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The fields in which recipes differ, each with its value in every recipe.

    Fields within fields are named "teacher.lr" or "objective_args.alpha"; None stands for one that a recipe lacks.
    """
    return _apart([_completed(recipe) for recipe in recipes])


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
    """Size of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def _defaults() -> dict[str, Any]:
    """The defaults of a recipe's fields, as plain values."""
    from lkd.recipe import Recipe

    plain = {f.name: f.default for f in dataclasses.fields(Recipe) if f.default is not dataclasses.MISSING}
    made = {f.name: f.default_factory for f in dataclasses.fields(Recipe)}
    return plain | {name: make() for name, make in made.items() if make is not dataclasses.MISSING}


def _completed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with all fields of today's recipes, and its teacher likewise."""
    teacher = recipe["teacher"]
    return {**_defaults(), **recipe, "teacher": _completed(teacher) if isinstance(teacher, Mapping) else teacher}


def _but_for_seed(entry: Entry) -> dict[str, Any]:
    return {**_completed(entry.recipe), "seed": None}


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
