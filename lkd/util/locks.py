"""Locks on files: held by one process at a time, and free as soon as that process ends, however it does."""

import fcntl
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

from filelock import FileLock

from lkd.util.files import writing

REMEDY = "put it on one that has, for lkd's home by LKD_HOME"
"""What to do about a folder where files cannot be locked."""


def lock_at(path: Path) -> FileLock:
    """The lock of a file; the same object for all of this process, which may hold it several times.

    Args:
        path: of the file, in a folder that is there.

    Raises:
        OSError: files cannot be locked there; names the folder, the reason and the remedy.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lkd.util.locks import lock_at
        >>> with lock_at(Path(tempfile.mkdtemp()) / "a.lock") as lock:
        ...     lock.is_locked
        True
    """
    check_locking(path.parent)
    return FileLock(path, is_singleton=True)


@cache
def check_locking(folder: Path, remedy: str = REMEDY) -> None:
    """Refuse a folder where files cannot be locked: there, a lock would outlive a process that is killed.

    Raises:
        OSError: names the folder, the reason and the remedy.
    """
    with writing(folder, "make room, or allow this user to write there"), tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OSError(
                f"files in {folder} cannot be locked ({error.strerror}): its file system has no flock; {remedy}"
            ) from error


def take(file: IO[str]) -> bool:
    """Lock an open file until it is closed; False, at once, where another process holds it locked."""
    return _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(path: Path) -> bool:
    """Whether a process that lives holds a file locked; False where there is no file."""
    try:
        with path.open() as file:
            return not _flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False


def wait_for_holder(path: Path) -> None:
    """Return when no process holds a file locked."""
    with path.open() as file:
        _flock(file, fcntl.LOCK_SH)


def keep(folder: Path) -> None:
    """Lock a folder until this process ends, beside others that do so: systemd-tmpfiles removes no old file from it."""
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)


def _flock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        return False
    return True
