"""What of a store has no use any more, and its removal."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import Timeout

from lkd.catalogue import Entry, disk_bytes
from lkd.engine.tape import read_manifest, recipe_of
from lkd.launched import left_in
from lkd.store import Store

LEFTOVER, CHECKPOINTS, TAPE, RUN = "leftover of a kill", "checkpoints of a finished run", "tape", "run"
"""Kinds of what is removed."""


class Waste(NamedTuple):
    """A file or folder that may go.

    Attributes:
        kind: LEFTOVER, CHECKPOINTS, TAPE or RUN.
        path: where it lies.
        bytes: what it takes.
        lock: name of the lock that is held by whoever works on it.
    """

    kind: str
    path: Path
    bytes: int
    lock: str


def useless(store: Store) -> list[Waste]:
    """What of a store nothing needs and nobody is working on.

    These are: what kills and launches left; checkpoints of runs that are finished; and, where no run is at work or
    waits half-done to be gone on with, tapes whose own run is finished. A tape is a copy of what its teacher says:
    without it, a further student of the same stream asks the teacher again.
    """
    found = [*_leftovers(store.folder), *_checkpoints(store.folder)]
    if not _at_work(store):
        found += _tapes(store.folder)
    return [waste for waste in found if _is_free(store, waste.lock)]


def of_runs(store: Store, entries: Iterable[Entry]) -> list[Waste]:
    """Finished runs as what is to be removed, without those that something is training anew."""
    found = [Waste(RUN, entry.path, entry.bytes, entry.run_id) for entry in entries]
    return [waste for waste in found if _is_free(store, waste.lock)]


def remove(store: Store, found: Sequence[Waste]) -> list[Waste]:
    """Remove what was found, as far as nobody has begun to work on it since.

    Returns:
        What has been removed.
    """
    removed = []
    for waste in found:
        with suppress(Timeout), store.lock(waste.lock).acquire(timeout=0):
            _delete(waste.path)
            removed.append(waste)
    return removed


def _leftovers(folder: Path) -> Iterator[Waste]:
    """What was being written or removed when a process was killed; the hidden names begin with that of the lock."""
    for kind in ("runs", "tapes", "checkpoints"):
        for path in (folder / kind).glob(".*"):
            yield Waste(LEFTOVER, path, disk_bytes(path), path.name[1:].rpartition(".")[0])
    for path in (folder / "checkpoints").glob("[!.]*/.*.pt"):
        yield Waste(LEFTOVER, path, disk_bytes(path), path.parent.name)
    for run_id, path in left_in(folder):
        yield Waste(LEFTOVER, path, disk_bytes(path), f"launch-{run_id}")


def _checkpoints(folder: Path) -> Iterator[Waste]:
    for path in (folder / "checkpoints").glob("[!.]*"):
        if (folder / "runs" / path.name).is_dir():
            yield Waste(CHECKPOINTS, path, disk_bytes(path), path.name)


def _tapes(folder: Path) -> Iterator[Waste]:
    for path in (folder / "tapes").glob("[!.]*"):
        recipe = recipe_of(read_manifest(path))
        if recipe and (folder / "runs" / recipe.run_id).is_dir():
            yield Waste(TAPE, path, disk_bytes(path), path.name)


def _at_work(store: Store) -> bool:
    """Whether something holds a lock of this store, or waits to be gone on with."""
    half_done = [
        path
        for path in (store.folder / "checkpoints").glob("[!.]*")
        if any(path.glob("*-*.pt")) and not (store.folder / "runs" / path.name).is_dir()
    ]
    locks = [path.stem for path in (store.folder / "locks").glob("*.lock")]
    return bool(half_done) or not all(_is_free(store, name) for name in locks)


def _is_free(store: Store, lock: str) -> bool:
    try:
        with store.lock(lock).acquire(timeout=0):
            return True
    except Timeout:
        return False


def _delete(path: Path) -> None:
    """Remove a file or folder; one that is removed in part has a name of a leftover, not its own."""
    if path.is_file():
        path.unlink()
        return
    doomed = path if path.name.startswith(".") else path.rename(path.with_name(f".{path.name}.removed"))
    shutil.rmtree(doomed)
