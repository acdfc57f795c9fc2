"""Zip archives that anybody may have made: nothing of one is believed before it is checked.

An archive is read into memory, file by file. It holds only files whose names its reader knows, each once; none is a
link, a folder or encrypted; sizes are capped before anything is read, and while it is.
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
"""Bytes that a file of an archive may have; the largest of the published records has 60 thousand."""

LARGEST_WHOLE = 256 * 2**20
"""Bytes that all files of an archive may have together; the published records of a profile have 5 million."""

_LARGEST_DIRECTORY = 4 * 2**20
"""Bytes of the list of files at an archive's end; that of 3,600 published files has 330 thousand."""

_END, _END_64 = b"PK\x05\x06", b"PK\x06\x07"
_END_BYTES, _END_64_BYTES = 22, 20
_ENCRYPTED = 0x1 | 0x40
_DOS_FOLDER = 0x10
_LONGEST_SHOWN = 80


class Archive:
    """The files of an archive, by name.

    Args:
        zipped: where they are read.
        files: the archive's own entry for each, by name.
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
            Exception: it is not there, or damaged; each library has errors of its own for that.
        """
        if name not in self._files:
            raise ValueError(f"it lacks {name!r}")
        size = self._files[name].file_size
        with self._zipped.open(self._files[name]) as file:
            content = file.read(size + 1)
        if len(content) != size:
            raise ValueError(f"{name!r} has {len(content):,} bytes where {size:,} are announced")
        return content


@contextmanager
def opened(file: Path | BinaryIO, known: re.Pattern[str]) -> Iterator[Archive]:
    """Open an archive and check its list of files.

    Args:
        file: where it is.
        known: pattern that every file name must match as a whole.

    Raises:
        OSError: it cannot be read.
        ValueError: a file that should not be in it, or sizes above the limits of this module; says which.
        Exception: no zip archive, or a damaged one.

    Example:
        >>> import io, re, zipfile
        >>> from lkd.util.archives import opened
        >>> file = io.BytesIO()
        >>> with zipfile.ZipFile(file, "w") as archive:
        ...     archive.writestr("../note.txt", "text")
        >>> with opened(file, re.compile("note[.]txt")) as archive:
        ...     archive.read("note.txt")
        Traceback (most recent call last):
        ValueError: it holds '../note.txt', a name that has no place in it
    """
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
        _check_end(stream)
        with zipfile.ZipFile(stream) as zipped:
            yield Archive(zipped, _checked(zipped.infolist(), known))


def inside(folder: Path, name: str) -> Path:
    """The path of a file in a folder, with all links followed.

    Raises:
        ValueError: it lies elsewhere.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lkd.util.archives import inside
        >>> inside(Path(tempfile.mkdtemp()), "runs/recipe.json").name
        'recipe.json'
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{folder / name} leads to {path}, out of its folder: remove {folder}, and repeat the command")
    return path


def _check_end(stream: BinaryIO) -> None:
    """Refuse an archive that does not end as the reader of zip files takes it to end, or whose list of files is large.

    The list is read whole, so that its size is looked at before.
    """
    size = stream.seek(0, os.SEEK_END)
    if size > LARGEST_WHOLE:
        raise ValueError(f"it has {size:,} bytes, and may have {LARGEST_WHOLE:,}")
    stream.seek(max(0, size - _END_BYTES - _END_64_BYTES))
    before, end = (tail := stream.read())[:-_END_BYTES], tail[-_END_BYTES:]
    if not end.startswith(_END) or not end.endswith(b"\0\0"):
        raise ValueError("it does not end as a zip archive ends")
    if before.startswith(_END_64):
        raise ValueError("it is a zip archive of the 64-bit form, for more files than it may have")
    (listed,) = struct.unpack("<L", end[12:16])
    if listed > _LARGEST_DIRECTORY:
        raise ValueError(f"its list of files has {listed:,} bytes, and may have {_LARGEST_DIRECTORY:,}")


def _checked(listed: list[zipfile.ZipInfo], known: re.Pattern[str]) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by name, none of them read."""
    files: dict[str, zipfile.ZipInfo] = {}
    for info in listed:
        _check_file(info, known)
        if info.orig_filename in files:
            raise ValueError(f"it holds {info.orig_filename!r} twice")
        files[info.orig_filename] = info
    if (whole := sum(info.file_size for info in listed)) > LARGEST_WHOLE:
        raise ValueError(f"its files have {whole:,} bytes together, and may have {LARGEST_WHOLE:,}")
    return files


def _check_file(info: zipfile.ZipInfo, known: re.Pattern[str]) -> None:
    """Refuse a file by its entry in the archive."""
    name = repr(info.orig_filename[:_LONGEST_SHOWN])
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not known.fullmatch(info.orig_filename):
        raise ValueError(f"it holds {name}, a name that has no place in it")
    if kind not in (0, stat.S_IFREG) or info.external_attr & _DOS_FOLDER:
        raise ValueError(f"{name} is a link, a folder or another thing that is no regular file")
    if info.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in another way than by deflate")
    if info.file_size > LARGEST_FILE:
        raise ValueError(f"{name} has {info.file_size:,} bytes, and may have {LARGEST_FILE:,}")
