"""Temporary files and folders: their names, and whether a process still uses them."""

import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lkd.util.locks import try_lock

_FOLDER_PREFIX = "lkd-tmp-"
_FOLDER_NAME = re.compile(f"{_FOLDER_PREFIX}[a-z0-9_]{{8}}")
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?:[a-z0-9_]{8}|tmp-[0-9a-f]{8})(?P<suffix>\.\w+)?")
"""Temporary names of `lkd.util.files.replacing`, such as `.metrics.npz.tmp-1a2b3c4d.npz`; earlier without `tmp-`."""

UNTOUCHED = {"file": 24 * 3600, "folder": 3600}
"""Seconds without a write after which a file, or an unlocked folder, counts as abandoned."""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder in TMPDIR that is removed when the block ends; a lock marks it as in use.

    Example:
        >>> from lkd.util.temporary import is_left, temporary_folder
        >>> with temporary_folder() as folder:
        ...     folder.is_dir(), is_left(folder)
        (True, False)
    """
    with tempfile.TemporaryDirectory(prefix=_FOLDER_PREFIX) as name:
        handle = os.open(name, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(handle)


def folders_left() -> list[Path]:
    """Temporary folders in TMPDIR left by killed processes."""
    paths = sorted(Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"))
    return [path for path in paths if _FOLDER_NAME.fullmatch(path.name) and is_left(path)]


def files_left_in(folder: Path) -> list[Path]:
    """Temporary files in a folder left by killed processes: not written to for a day."""
    return [path for path in sorted(folder.glob(".*")) if _is_temporary(path.name) and is_left(path)]


def is_left(path: Path) -> bool:
    """Whether a temporary file or folder is abandoned.

    A file is in use for a day after its last write. A folder is in use while its process holds the lock, and for an
    hour after its last change. Links, and files and folders of other users, always count as in use.
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
        return not try_lock(handle)
    finally:
        os.close(handle)


def _is_temporary(name: str) -> bool:
    found = _TEMPORARY.fullmatch(name)
    return found is not None and Path(found["name"]).suffix == (found["suffix"] or "")
