"""Find and remove unused files of a store."""

import json
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import Timeout

from lkd.recipe_fields import completed
from lkd.runs.catalogue import Catalogue, Entry, disk_bytes, entries, entry, visible
from lkd.runs.launches import ended_launches, legacy_files
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
"""Kinds of removable files and folders."""

_TAPES = ("tapes", "test_outputs")
"""Folders of tapes: outputs of teachers along streams, and on test images."""

_TAPE_NAME = re.compile(r"\.(.+)\.(?:\d+|tmp-[0-9a-f]{8}|removed)")
_UNFINISHED = {
    "runs": re.compile(r"\.([0-9a-f]{16})\.[^.]+"),
    "checkpoints": re.compile(r"\.([0-9a-f]{16})\.removed"),
    **dict.fromkeys(_TAPES, _TAPE_NAME),
}
"""By folder, the names of files and folders that are being written or removed; group 1 is the name of the lock."""

_WRITTEN_TO = (
    "chapters", "claims", "failures", "published/*", "runs/*", "runs/*/measured", "tapes/*", "test_outputs/*",
    "data/fashion-mnist", "data/corrupted/*"
)  # fmt: skip
"""Folders, next to the store's own, in which lkd writes files under temporary names; none contains a user's data."""

_REMOVED_SUFFIX = ".removed"
_NEEDED_FILES = (*RECORDS, STUDENT)


class Waste(NamedTuple):
    """A removable file or folder.

    Attributes:
        kind: LEFTOVER, TEMPORARY, CHECKPOINTS, TAPE or RUN.
        path: its path.
        bytes: its size on disk.
        lock: name of the lock that a process using it holds; "" for TEMPORARY, see `lkd.util.temporary.is_left`.
    """

    kind: str
    path: Path
    bytes: int
    lock: str


class Unused(NamedTuple):
    """The unused files and folders of a store.

    Attributes:
        found: the files and folders.
        faults: one line per damaged or foreign file, which is kept, with its path, the reason and the remedy.
    """

    found: list[Waste]
    faults: list[str]


def find_unused(folder: Path) -> Unused:
    """Find unused files and folders in a store's folder and in TMPDIR.

    These are leftovers of killed processes and launches; temporary files; checkpoints of finished runs; and, if no run
    of the store is active or interrupted, tapes of finished runs. Without its tape, a teacher is evaluated again for
    the next student of the same stream.

    A complete run under a temporary name is kept if the run itself is missing.
    """
    known = entries(folder)
    finished = {run.run_id for run in known.runs}
    faults = list(known.faults)
    found = [*_leftovers(folder, faults), *_temporaries(folder), *_finished_checkpoints(folder, finished)]
    tapes = list(_finished_tapes(folder, known, faults))
    if not _has_unfinished_work(folder, finished):
        found += tapes
    return Unused([waste for waste in found if _is_free(folder, waste)], faults)


def removable_runs(folder: Path, chosen: Iterable[Entry]) -> list[Waste]:
    """Finished runs as removable folders, except runs that are being retrained."""
    found = [Waste(RUN, run.path, run.bytes, run.run_id) for run in chosen]
    return [waste for waste in found if _is_free(folder, waste)]


def remove(folder: Path, found: Sequence[Waste]) -> list[Waste]:
    """Remove files and folders found in a store's folder, except any that are in use by now.

    Returns:
        The removed files and folders.

    Raises:
        OSError: a file or folder cannot be removed; names it.
    """
    removed = []
    for waste in found:
        with _locked_for_removal(folder, waste) as free:
            if free and not _only_copy(waste.path):
                _delete(waste.path)
                removed.append(waste)
    return removed


def _leftovers(folder: Path, faults: list[str]) -> Iterator[Waste]:
    """Files and folders that a killed process was writing or removing."""
    for kind, name in _UNFINISHED.items():
        for path in sorted((folder / kind).glob(".*")):
            if not (match := name.fullmatch(path.name)):
                continue
            waste = Waste(LEFTOVER, path, disk_bytes(path), match[1])
            if not (whole := _only_copy(path)):
                yield waste
            elif _is_free(folder, waste):
                faults.append(f"{whole} is a complete run left by a kill: rename it to {path.parent / match[1]}")
    for path in (folder / "checkpoints").glob("[!.]*/.*.pt"):
        yield Waste(LEFTOVER, path, disk_bytes(path), path.parent.name)
    for run_id, path in (*legacy_files(folder), *ended_launches(folder)):
        yield Waste(LEFTOVER, path, disk_bytes(path), f"launch-{run_id}")


def _only_copy(path: Path) -> Path | None:
    """The folder of a complete run under a temporary name, if the run itself is missing; else None."""
    name = _UNFINISHED["runs"].fullmatch(path.name)
    if name is None or path.name.endswith(_REMOVED_SUFFIX):
        return None
    try:
        entry(path.with_name(name[1]))
    except (OSError, ValueError):
        places = (path, path / "replaced")
        return next((each for each in places if all((each / name).exists() for name in _NEEDED_FILES)), None)
    return None


def _temporaries(folder: Path) -> Iterator[Waste]:
    places = [folder, *(place for pattern in _WRITTEN_TO for place in folder.glob(pattern))]
    for path in (*(path for place in places for path in files_left_in(place)), *folders_left()):
        yield Waste(TEMPORARY, path, disk_bytes(path), "")


def _finished_checkpoints(folder: Path, finished: Collection[str]) -> Iterator[Waste]:
    for path in visible(folder / "checkpoints"):
        if path.name in finished:
            yield Waste(CHECKPOINTS, path, disk_bytes(path), path.name)


def _finished_tapes(folder: Path, known: Catalogue, faults: list[str]) -> Iterator[Waste]:
    """Tapes of finished runs."""
    if not (paths := sorted(path for name in _TAPES for path in visible(folder / name))):
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
    """The recipe that a tape was recorded for; None if its manifest has none."""
    if not path.is_dir():
        raise ValueError(f"{path} is not a tape: move it to another folder")
    remedy = f"remove {path}: the tape is recorded again when a run needs it"
    manifest = read_json(path / "manifest.json", remedy)
    with reading(path / "manifest.json", "manifest of a tape", remedy):
        if (recipe := manifest.get("recipe")) is not None:
            completed(recipe)
    return recipe


def _canonical(recipe: Mapping[str, Any]) -> str:
    return json.dumps(completed(recipe), sort_keys=True)


def _has_unfinished_work(folder: Path, finished: Collection[str]) -> bool:
    """Whether the store has an interrupted run, or a process holds one of its locks."""
    interrupted = [
        path for path in visible(folder / "checkpoints") if any(path.glob("*-*.pt")) and path.name not in finished
    ]
    return bool(interrupted) or any(is_held(path) for path in (folder / "locks").glob("*.lock"))


def _is_free(folder: Path, waste: Waste) -> bool:
    return is_left(waste.path) if not waste.lock else not is_held(folder / "locks" / f"{waste.lock}.lock")


@contextmanager
def _locked_for_removal(folder: Path, waste: Waste) -> Iterator[bool]:
    """Lock a file or folder within the block, for its removal; yields False if it is in use."""
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
    """Remove a file or folder; a folder is renamed first, to mark it as a leftover if this is interrupted."""
    with writing(path, "allow this user to remove it"):
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        doomed = path if path.name.startswith(".") else path.rename(path.with_name(f".{path.name}{_REMOVED_SUFFIX}"))
        shutil.rmtree(doomed)
