"""Verify a whole store: every run, measurement, tape and checkpoint is read in full."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lkd.engine.checkpoint import check_digest
from lkd.engine.tape import Tape
from lkd.engine.teacher_source import TEST_OUTPUTS
from lkd.recipe import IN_MEMORY
from lkd.runs.catalogue import run_folders, visible
from lkd.runs.manifest import MASKS, STUDENT, check_file, check_records
from lkd.runs.predictions import PREDICTIONS
from lkd.runs.store import Store, remedy
from lkd.util.files import reading


class Verified(NamedTuple):
    """The number of items of a kind in a store, and the damaged ones.

    Attributes:
        kind: "runs", "measurements", "tapes" or "checkpoints".
        total: number of items.
        faults: a line for each damaged item, with file, reason and remedy.
    """

    kind: str
    total: int
    faults: list[str]


def verify(store: Store) -> Iterator[Verified]:
    """Verify everything in a store, kind by kind.

    Runs are compared with their manifests, measurements and tapes with their checksums, checkpoints with the digests in
    their names. An older run without a manifest is read in full and gets one, unless its network is in memory only.

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
    tapes = [path for name in ("tapes", TEST_OUTPUTS) for path in visible(folder / name) if path.is_dir()]
    yield _verified("tapes", sorted(tapes), _check_tape)
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
        for name in (PREDICTIONS, STUDENT, MASKS):
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
                raise ValueError(f"the checksum of {damaged} does not match")
        with np.load(path, allow_pickle=False) as arrays:
            dict(arrays)


def _check_tape(path: Path) -> None:
    tape = Tape(path)
    if damaged := tape.damaged():
        raise ValueError(f"{path} has {damaged:,} damaged records: they are recorded again when a run needs them")
