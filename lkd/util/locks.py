"""File locks, held by one process at a time and released when that process ends or is killed."""

import fcntl
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

from filelock import FileLock

from lkd.util.files import writing

MOVE_HOME = "move it to a file system with flock (lkd's home: set LKD_HOME)"
"""Remedy for a folder without file locking."""


def lock_at(path: Path) -> FileLock:
    """The lock of a file: one reentrant object per process.

    Args:
        path: the lock's file, in an existing folder.

    Raises:
        OSError: the folder does not support locks; names the folder, the reason and the remedy.

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
def check_locking(folder: Path, remedy: str = MOVE_HOME) -> None:
    """Raise an OSError if files in a folder cannot be locked by `flock`."""
    with writing(folder, "make room, or allow this user to write there"), tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OSError(
                f"files in {folder} cannot be locked ({error.strerror}): its file system has no flock; {remedy}"
            ) from error


def try_lock(file: IO[str] | int) -> bool:
    """Lock an open file until it is closed; return False at once if another process holds the lock."""
    return _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file; False if the file is missing."""
    try:
        with path.open() as file:
            return not _flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False


def wait_for_holder(path: Path) -> None:
    """Wait until no process holds the lock of a file."""
    with path.open() as file:
        _flock(file, fcntl.LOCK_SH)


def share_until_exit(folder: Path) -> None:
    """Hold a shared lock of a folder until this process ends: systemd-tmpfiles then keeps the folder's old files."""
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)


def _flock(file: IO[str] | int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        return False
    return True
