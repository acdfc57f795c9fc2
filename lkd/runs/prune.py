"""What of a store has no use any more, and its removal."""

import json
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import Timeout

from lkd.runs.catalogue import Catalogue, Entry, completed, disk_bytes, entries, entry, inside
from lkd.runs.launches import ended, left_in
from lkd.runs.manifest import RECORDS, STUDENT
from lkd.util.files import read_json, reading, writing
from lkd.util.locks import is_held, lock_at
from lkd.util.temporary import files_left_in, folders_left, is_left

LEFTOVER, TEMPORARY, CHECKPOINTS, TAPE, RUN = (
    "leftover of a kill",
    "temporary file",
    "checkpoints of a finished run",
    "tape",
    "run",
)
"""Kinds of what is removed."""

_HALF = {
    "runs": re.compile(r"\.([0-9a-f]{16})\.[^.]+"),
    "checkpoints": re.compile(r"\.([0-9a-f]{16})\.removed"),
    "tapes": re.compile(r"\.(.+)\.(?:\d+|tmp-[0-9a-f]{8}|removed)"),
}
"""By folder, the names of what is being written or removed; each holds that of its lock."""

_WRITTEN_TO = (
    "chapters", "claims", "failures", "published/*", "runs/*", "runs/*/measured", "tapes/*", "data/fashion-mnist",
    "data/corrupted/*"
)  # fmt: skip
"""Beside the store's own, folders in which lkd writes files under a temporary name first; none with a user's data."""

_REMOVED = ".removed"
_OF_A_RUN = (*RECORDS, STUDENT)


class Waste(NamedTuple):
    """A file or folder that may go.

    Attributes:
        kind: LEFTOVER, TEMPORARY, CHECKPOINTS, TAPE or RUN.
        path: where it lies.
        bytes: what it takes.
        lock: name of the lock that is held by whoever works on it; "" for TEMPORARY, see `lkd.util.temporary.is_left`.
    """

    kind: str
    path: Path
    bytes: int
    lock: str


class Useless(NamedTuple):
    """What has no use any more in a store.

    Attributes:
        found: the files and folders.
        faults: what is damaged or foreign and stays, in one line each: its path, the reason, and what to do.
    """

    found: list[Waste]
    faults: list[str]


def useless(folder: Path) -> Useless:
    """What in a store's folder, and in TMPDIR, nothing needs and nobody is working on.

    These are: what kills and launches left; temporary files; checkpoints of runs that are finished; and, where no run
    is at work or waits half-done to be gone on with, tapes whose own run is finished. A tape is a copy of what its
    teacher says: without it, a further student of the same stream asks the teacher again.

    A whole run under a temporary name stays, unless the run itself is in its place.
    """
    known = entries(folder)
    finished = {run.run_id for run in known.runs}
    faults = list(known.faults)
    found = [*_leftovers(folder, faults), *_temporaries(folder), *_checkpoints(folder, finished)]
    tapes = list(_tapes(folder, known, faults))
    if not _at_work(folder, finished):
        found += tapes
    return Useless([waste for waste in found if _is_free(folder, waste)], faults)


def of_runs(folder: Path, chosen: Iterable[Entry]) -> list[Waste]:
    """Finished runs as what is to be removed, without those that something is training anew."""
    found = [Waste(RUN, run.path, run.bytes, run.run_id) for run in chosen]
    return [waste for waste in found if _is_free(folder, waste)]


def remove(folder: Path, found: Sequence[Waste]) -> list[Waste]:
    """Remove what was found in a store's folder, as far as nobody has begun to work on it since.

    Returns:
        What has been removed.

    Raises:
        OSError: something cannot be removed; names it.
    """
    removed = []
    for waste in found:
        with _kept_free(folder, waste) as free:
            if free and not _only_copy(waste.path):
                _delete(waste.path)
                removed.append(waste)
    return removed


def _leftovers(folder: Path, faults: list[str]) -> Iterator[Waste]:
    """What was being written or removed when a process was killed."""
    for kind, name in _HALF.items():
        for path in sorted((folder / kind).glob(".*")):
            if not (match := name.fullmatch(path.name)):
                continue
            waste = Waste(LEFTOVER, path, disk_bytes(path), match[1])
            if not (whole := _only_copy(path)):
                yield waste
            elif _is_free(folder, waste):
                faults.append(f"{whole} is a whole run, which a kill left there: rename it to {path.parent / match[1]}")
    for path in (folder / "checkpoints").glob("[!.]*/.*.pt"):
        yield Waste(LEFTOVER, path, disk_bytes(path), path.parent.name)
    for run_id, path in (*left_in(folder), *ended(folder)):
        yield Waste(LEFTOVER, path, disk_bytes(path), f"launch-{run_id}")


def _only_copy(path: Path) -> Path | None:
    """The folder of the whole run that lies under a temporary name, where the run is not in its place."""
    name = _HALF["runs"].fullmatch(path.name)
    if name is None or path.name.endswith(_REMOVED):
        return None
    try:
        entry(path.with_name(name[1]))
    except (OSError, ValueError):
        places = (path, path / "replaced")
        return next((each for each in places if all((each / name).exists() for name in _OF_A_RUN)), None)
    return None


def _temporaries(folder: Path) -> Iterator[Waste]:
    places = [folder, *(place for pattern in _WRITTEN_TO for place in folder.glob(pattern))]
    for path in (*(path for place in places for path in files_left_in(place)), *folders_left()):
        yield Waste(TEMPORARY, path, disk_bytes(path), "")


def _checkpoints(folder: Path, finished: Collection[str]) -> Iterator[Waste]:
    for path in inside(folder / "checkpoints"):
        if path.name in finished:
            yield Waste(CHECKPOINTS, path, disk_bytes(path), path.name)


def _tapes(folder: Path, known: Catalogue, faults: list[str]) -> Iterator[Waste]:
    """Tapes of finished runs."""
    if not (paths := sorted(inside(folder / "tapes"))):
        return
    finished = {_canonical(run.recipe) for run in known.runs}
    for path in paths:
        try:
            recipe = _recorded_for(path)
        except (OSError, ValueError) as error:
            faults.append(str(error))
            continue
        if recipe and _canonical(recipe) in finished:
            yield Waste(TAPE, path, disk_bytes(path), path.name)


def _recorded_for(path: Path) -> Mapping[str, Any] | None:
    """The recipe that a tape was recorded for; None where its manifest does not say."""
    if not path.is_dir():
        raise ValueError(f"{path} is no tape: move it to another folder")
    remedy = f"remove {path}: the tape is recorded again when a run needs it"
    manifest = read_json(path / "manifest.json", remedy)
    with reading(path / "manifest.json", "manifest of a tape", remedy):
        if (recipe := manifest.get("recipe")) is not None:
            completed(recipe)
    return recipe


def _canonical(recipe: Mapping[str, Any]) -> str:
    return json.dumps(completed(recipe), sort_keys=True)


def _at_work(folder: Path, finished: Collection[str]) -> bool:
    """Whether something holds a lock of this store, or waits to be gone on with."""
    half_done = [
        path for path in inside(folder / "checkpoints") if any(path.glob("*-*.pt")) and path.name not in finished
    ]
    return bool(half_done) or any(is_held(path) for path in (folder / "locks").glob("*.lock"))


def _is_free(folder: Path, waste: Waste) -> bool:
    return is_left(waste.path) if not waste.lock else not is_held(folder / "locks" / f"{waste.lock}.lock")


@contextmanager
def _kept_free(folder: Path, waste: Waste) -> Iterator[bool]:
    """Keep others from what is removed within the block; False where somebody works on it."""
    if not waste.lock:
        yield is_left(waste.path)
        return
    path = folder / "locks" / f"{waste.lock}.lock"
    with writing(path, "allow this user to write there"):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_at(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _delete(path: Path) -> None:
    """Remove a file or folder; one that is removed in part has a name of a leftover, not its own."""
    with writing(path, "allow this user to remove it"):
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        doomed = path if path.name.startswith(".") else path.rename(path.with_name(f".{path.name}{_REMOVED}"))
        shutil.rmtree(doomed)
