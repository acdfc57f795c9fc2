"""A whole store, read from its first to its last byte: every run, measurement, tape and checkpoint."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lkd.engine.checkpoint import check_digest
from lkd.engine.tape import Tape
from lkd.recipe import IN_MEMORY
from lkd.runs.catalogue import run_folders, visible
from lkd.runs.manifest import MASKS, STUDENT, check_file, check_records
from lkd.runs.store import Store, remedy
from lkd.util.files import reading


class Verified(NamedTuple):
    """How many of a kind are in a store, and in one line each the ones that are damaged.

    Attributes:
        kind: "runs", "measurements", "tapes" or "checkpoints".
        total: how many there are.
        faults: file, reason and remedy of each one that is damaged.
    """

    kind: str
    total: int
    faults: list[str]


def verify(store: Store) -> Iterator[Verified]:
    """Verify everything in a store, kind by kind.

    A run is compared with its manifest; one from before lkd wrote manifests is read whole and gets one, unless its
    network exists in the memory of another process only. Measurements and tapes are compared with their checksums,
    checkpoints with the digests in their names.

    Args:
        store: which.

    Example:
        >>> import tempfile
        >>> from lkd.runs.store import Store
        >>> from lkd.engine.verify_store import verify
        >>> [found.total for found in verify(Store(tempfile.mkdtemp()))]
        [0, 0, 0, 0]
    """
    folder = store.folder
    yield _verified("runs", run_folders(folder), lambda path: _check_run(store, path))
    yield _verified("measurements", sorted(folder.glob("runs/[!.]*/measured/*.npz")), _check_measurement)
    yield _verified("tapes", sorted(path for path in visible(folder / "tapes") if path.is_dir()), _check_tape)
    yield _verified("checkpoints", sorted(folder.glob("checkpoints/[!.]*/*-*.pt")), check_digest)


def _verified(kind: str, paths: list[Path], check: Callable[[Path], None]) -> Verified:
    faults = []
    for path in paths:
        try:
            check(path)
        except (OSError, KeyError, TypeError, ValueError) as error:
            faults.append(str(error.args[0] if isinstance(error, KeyError) else error))
    return Verified(kind, len(paths), faults)


def _check_run(store: Store, path: Path) -> None:
    if check_records(path, path.name, remedy(path)):
        for name in (STUDENT, MASKS):
            if (path / name).exists():
                check_file(path, name, path.name, remedy(path))
        return
    run = store.by_id(path.name)
    if not run.recipe.student.startswith(IN_MEMORY):
        run.verify()


def _check_measurement(path: Path) -> None:
    with reading(path, "measurement", "remove it, and it is measured again"):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"the checksum of {damaged} is another")
        with np.load(path, allow_pickle=False) as arrays:
            dict(arrays)


def _check_tape(path: Path) -> None:
    tape = Tape(path)
    if damaged := tape.damaged():
        raise ValueError(f"{path} has {damaged:,} damaged records: they are recorded again when a run needs them")
