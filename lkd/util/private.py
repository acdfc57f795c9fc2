"""Folders that no other user can write to: a pickle, which can execute code, is loaded from nowhere else."""

import os
import platform
import stat
import tempfile
from pathlib import Path

from lkd.util.files import writing
from lkd.util.locks import check_locking

REMEDY = "set TMPDIR to a folder of your own"
"""What to do where the folder for temporary files does not do."""


def own_folder() -> Path:
    """The folder of this user on this machine for what processes hand each other; made if it is not there.

    Raises:
        OSError: it cannot be made, others can open it, or its files cannot be locked; names it and the remedy.

    Example:
        >>> from lkd.util.private import own_folder
        >>> oct(own_folder().stat().st_mode & 0o777)
        '0o700'
    """
    folder = _own()
    with writing(folder, REMEDY):
        folder.mkdir(mode=0o700, exist_ok=True)
    if fault := _fault(folder):
        raise PermissionError(f"{folder} {fault}: remove it, or {REMEDY}")
    check_locking(folder, REMEDY)
    return folder


def own_folder_there() -> Path | None:
    """That folder if it is there and this user's alone."""
    folder = _own()
    return folder if folder.exists() and not _fault(folder) else None


def check_guarded(folder: Path, remedy: str) -> None:
    """Refuse a folder that other users can write to or replace, because of its own mode or that of one above it.

    Args:
        folder: an absolute path.
        remedy: what to do about it.

    Raises:
        PermissionError: names the folder that is open to others.

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


def _own() -> Path:
    return Path(tempfile.gettempdir()) / f"lkd-{os.getuid()}@{platform.node()}"


def _fault(folder: Path) -> str:
    """Why something is no folder that this user alone can open; empty if it is one."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return "is no folder"
    if found.st_uid != os.getuid():
        return f"belongs to user {found.st_uid}, not to {os.getuid()}"
    if mode := stat.S_IMODE(found.st_mode) & 0o077:
        return f"can be opened by others (mode {mode | 0o700:o})"
    return ""
