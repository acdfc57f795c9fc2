"""Folders that no other user can write to: pickles, which can execute code, are loaded only from these."""

import os
import platform
import stat
import tempfile
from pathlib import Path

from lkd.util.files import writing
from lkd.util.locks import check_locking

SET_TMPDIR = "set TMPDIR to a folder of your own"
"""Remedy for an unsuitable temporary folder."""


def private_folder() -> Path:
    """This user's private folder on this machine, for files that processes exchange; created if missing.

    Raises:
        OSError: it cannot be created, is open to others, or does not support locks; names it and the remedy.

    Example:
        >>> from lkd.util.private import private_folder
        >>> oct(private_folder().stat().st_mode & 0o777)
        '0o700'
    """
    folder = _private_path()
    with writing(folder, SET_TMPDIR):
        folder.mkdir(mode=0o700, exist_ok=True)
    if problem := _problem(folder):
        raise PermissionError(f"{folder} {problem}: remove it, or {SET_TMPDIR}")
    check_locking(folder, SET_TMPDIR)
    return folder


def existing_private_folder() -> Path | None:
    """The private folder, or None if it is missing or open to others."""
    folder = _private_path()
    return folder if folder.exists() and not _problem(folder) else None


def check_guarded(folder: Path, remedy: str) -> None:
    """Raise a PermissionError if other users can write to a folder or one of its parents.

    Args:
        folder: an absolute path.
        remedy: the fix, for the error message.

    Example:
        >>> from pathlib import Path
        >>> from lkd.util.private import check_guarded
        >>> check_guarded(Path("/"), "give another folder")
    """
    for each in (folder, *folder.parents):
        found = each.stat()
        if found.st_uid not in (os.getuid(), 0):
            raise PermissionError(f"{each} belongs to user {found.st_uid}, who can replace {folder}: {remedy}")
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            raise PermissionError(f"{each} can be written by others (mode {stat.S_IMODE(found.st_mode):o}): {remedy}")


def _private_path() -> Path:
    return Path(tempfile.gettempdir()) / f"lkd-{os.getuid()}@{platform.node()}"


def _problem(folder: Path) -> str:
    """Why a path is not a folder that only this user can open; empty if it is."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return "is not a folder"
    if found.st_uid != os.getuid():
        return f"belongs to user {found.st_uid}, not to {os.getuid()}"
    if mode := stat.S_IMODE(found.st_mode) & 0o077:
        return f"can be opened by others (mode {mode | 0o700:o})"
    return ""
