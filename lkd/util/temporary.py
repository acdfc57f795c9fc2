"""Temporary files and folders: names that tell them apart, and whether a process still uses them."""

import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "lkd-tmp-"
_FOLDER = re.compile(f"{_PREFIX}[a-z0-9_]{{8}}")
_BESIDE = re.compile(r"\.(?P<name>.+)\.(?:[a-z0-9_]{8}|tmp-[0-9a-f]{8})(?P<suffix>\.\w+)?")
"""Names that `lkd.util.files.replacing` writes to: `.metrics.npz.1a2b3c4d.npz`."""

UNTOUCHED = {"file": 24 * 3600, "folder": 3600}
"""Seconds after which a temporary file that nothing has written to counts as left, and an unlocked folder."""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder in TMPDIR, removed when the block ends; locked meanwhile, so that it is known to be in use.

    Example:
        >>> from lkd.util.temporary import is_left, temporary_folder
        >>> with temporary_folder() as folder:
        ...     folder.is_dir(), is_left(folder)
        (True, False)
    """
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        handle = os.open(name, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(handle)


def folders_left() -> list[Path]:
    """Temporary folders that a kill has left in TMPDIR."""
    paths = sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))
    return [path for path in paths if _FOLDER.fullmatch(path.name) and is_left(path)]


def files_left_in(folder: Path) -> list[Path]:
    """Temporary files that a kill has left in a folder: those that nothing has written to for a day."""
    return [path for path in sorted(folder.glob(".*")) if _is_beside(path.name) and is_left(path)]


def is_left(path: Path) -> bool:
    """Whether no process uses a temporary file or folder any more.

    A file counts as used for a day after it was last written to. A folder counts as used while it is locked, which ends
    with the process, and for its first hour. Those of other users count as used, and links.
    """
    try:
        found = path.lstat()
        idle = time.time() - found.st_mtime
        if found.st_uid != os.getuid():
            return False
        if stat.S_ISDIR(found.st_mode):
            return idle > UNTOUCHED["folder"] and not _is_locked(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and idle > UNTOUCHED["file"]


def _is_locked(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _is_beside(name: str) -> bool:
    found = _BESIDE.fullmatch(name)
    return found is not None and Path(found["name"]).suffix == (found["suffix"] or "")
