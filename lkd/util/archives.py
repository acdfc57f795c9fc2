"""Reading of untrusted zip archives.

Files are read into memory, one at a time. Every name must match a pattern and occur once. Links, folders and encrypted
files are refused. Sizes are checked in the list of files and during decompression.
"""

import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

LARGEST_FILE = 16 * 2**20
"""Maximum bytes of one file; the largest published one has 9 million."""

LARGEST_WHOLE = 256 * 2**20
"""Maximum bytes of all files together; the published records of a profile have up to 100 million."""

_LARGEST_DIRECTORY = 4 * 2**20
"""Maximum bytes of the list of files at an archive's end; a hundred published files take 10 thousand."""

_END_RECORD, _END_64 = b"PK\x05\x06", b"PK\x06\x07"
_END_BYTES, _END_64_BYTES = 22, 20
_ENCRYPTED = 0x1 | 0x40
_DOS_FOLDER = 0x10
_LONGEST_SHOWN = 80


class Archive:
    """The files of an archive, by name.

    Args:
        zipped: the open archive.
        files: its entry for each file, by name.
    """

    def __init__(self, zipped: zipfile.ZipFile, files: Mapping[str, zipfile.ZipInfo]):
        self._zipped, self._files = zipped, files

    @property
    def names(self) -> list[str]:
        """Names of all files."""
        return list(self._files)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            Exception: the file is missing or damaged; each library raises its own errors.
        """
        if name not in self._files:
            raise ValueError(f"{name!r} is missing")
        size = self._files[name].file_size
        with self._zipped.open(self._files[name]) as file:
            content = file.read(size + 1)
        if len(content) != size:
            raise ValueError(f"{name!r} has {len(content):,} bytes, its entry lists {size:,}")
        return content


@contextmanager
def open_archive(file: Path | BinaryIO, known: re.Pattern[str]) -> Iterator[Archive]:
    """Open an archive and check its list of files.

    Args:
        file: the archive, or its path.
        known: pattern that every file name must match as a whole.

    Raises:
        OSError: the archive cannot be read.
        ValueError: an unexpected file, or a size above the limits of this module; names it.
        Exception: not a zip archive, or a damaged one.

    Example:
        >>> import io, re, zipfile
        >>> from lkd.util.archives import open_archive
        >>> file = io.BytesIO()
        >>> with zipfile.ZipFile(file, "w") as archive:
        ...     archive.writestr("../note.txt", "text")
        >>> with open_archive(file, re.compile("note[.]txt")) as archive:
        ...     archive.read("note.txt")
        Traceback (most recent call last):
        ValueError: unexpected file '../note.txt'
    """
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
        _check_end_record(stream)
        with zipfile.ZipFile(stream) as zipped:
            yield Archive(zipped, _checked_entries(zipped.infolist(), known))


def path_within(folder: Path, name: str) -> Path:
    """The resolved path of a file in a folder.

    Raises:
        ValueError: the path is outside the folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lkd.util.archives import path_within
        >>> path_within(Path(tempfile.mkdtemp()), "runs/recipe.json").name
        'recipe.json'
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(
            f"{folder / name} links to {path}, outside its folder: remove {folder}, and repeat the command"
        )
    return path


def _check_end_record(stream: BinaryIO) -> None:
    """Refuse an archive that is too large, has no plain end record, or has a long list of files.

    `zipfile` reads the whole list at once, so its size is checked first.
    """
    size = stream.seek(0, os.SEEK_END)
    if size > LARGEST_WHOLE:
        raise ValueError(f"it has {size:,} bytes, at most {LARGEST_WHOLE:,} are allowed")
    stream.seek(max(0, size - _END_BYTES - _END_64_BYTES))
    before, end = (tail := stream.read())[:-_END_BYTES], tail[-_END_BYTES:]
    if not end.startswith(_END_RECORD) or not end.endswith(b"\0\0"):
        raise ValueError("the end record of a zip archive is missing")
    if before.startswith(_END_64):
        raise ValueError("64-bit zip archives are not supported")
    (listed,) = struct.unpack("<L", end[12:16])
    if listed > _LARGEST_DIRECTORY:
        raise ValueError(f"its list of files has {listed:,} bytes, at most {_LARGEST_DIRECTORY:,} are allowed")


def _checked_entries(listed: list[zipfile.ZipInfo], known: re.Pattern[str]) -> dict[str, zipfile.ZipInfo]:
    """Check all entries of an archive, and return them by name."""
    files: dict[str, zipfile.ZipInfo] = {}
    for info in listed:
        _check_file(info, known)
        if info.orig_filename in files:
            raise ValueError(f"it contains {info.orig_filename!r} twice")
        files[info.orig_filename] = info
    if (whole := sum(info.file_size for info in listed)) > LARGEST_WHOLE:
        raise ValueError(f"its files have {whole:,} bytes together, at most {LARGEST_WHOLE:,} are allowed")
    return files


def _check_file(info: zipfile.ZipInfo, known: re.Pattern[str]) -> None:
    """Check the entry of one file."""
    name = repr(info.orig_filename[:_LONGEST_SHOWN])
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not known.fullmatch(info.orig_filename):
        raise ValueError(f"unexpected file {name}")
    if kind not in (0, stat.S_IFREG) or info.external_attr & _DOS_FOLDER:
        raise ValueError(f"{name} is not a regular file")
    if info.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is not compressed with deflate")
    if info.file_size > LARGEST_FILE:
        raise ValueError(f"{name} has {info.file_size:,} bytes, at most {LARGEST_FILE:,} are allowed")
