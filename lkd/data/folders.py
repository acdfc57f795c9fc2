"""List the images in a folder; everything else is ignored by a rule or raises an error."""

import os
import stat
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image

RULES = {
    "hidden": "hidden",
    "system": "of the operating system",
    "other": "of other types",
    "loop": "linking to a parent folder",
    "empty": "without images",
    "beside": "outside the splits",
    "replaced": "replaced later in the tar file",
}
"""Reasons to ignore a file or folder, as `lkd data check` prints them."""

SYSTEM = frozenset([
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "lost+found", "$recycle.bin",
    "#recycle", "system volume information"
])  # fmt: skip
"""Lower-case names of files and folders that operating systems and file servers create."""

DATA = frozenset([
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".md", ".rst", ".html",
    ".htm", ".pdf", ".log", ".py", ".ipynb", ".sh", ".mat", ".npy", ".npz", ".pt", ".pth", ".pkl", ".pickle",
    ".parquet", ".arrow", ".h5", ".hdf5", ".hdf", ".db", ".sqlite", ".lmdb", ".tfrecord", ".zip", ".tar", ".gz",
    ".tgz", ".bz2", ".xz", ".7z", ".rar", ".md5", ".sha1", ".sha256", ".sha512", ".asc", ".sig", ".doc", ".docx",
    ".xls", ".xlsx", ".mp4", ".avi", ".mov", ".wav", ".mp3"
])  # fmt: skip
"""Extensions of files that are not images; their content is not examined."""

UNREADABLE = frozenset([
    ".heic", ".heif", ".hif", ".avif", ".avifs", ".jxl", ".svg", ".eps", ".ai", ".wmf", ".emf", ".exr", ".hdr",
    ".dcm", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".djvu", ".webp", ".jp2", ".j2k",
    ".tif", ".tiff"
])  # fmt: skip
"""Extensions of images that Pillow reads only with a plugin or library, or not at all."""

NO_PIXELS = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS", "IPTC", "PCD")
"""Formats that Pillow identifies but does not decode by itself."""

HEADS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*"),
}
"""First bytes of the most common image formats."""

LARGEST = 1 << 30
"""Size limit of image files in bytes: the RGB size of the largest image that Pillow decodes."""

_DEEPEST = 100
"""Limit of nested folders."""


class Picture(NamedTuple):
    """An image file.

    Attributes:
        name: its path relative to the split.
        folders: names of its parent folders, relative to the split.
        place: inode of its file; or path, offset and size in a tar file.
    """

    name: str
    folders: tuple[str, ...]
    place: int | tuple[str, int, int]


@dataclass
class Contents:
    """Everything in a folder or tar file.

    Attributes:
        pictures: the images, sorted by name.
        folders: all folders, with or without images, each as the names on its path.
        ignored: names of ignored files and folders, by key of `RULES`.
    """

    pictures: list[Picture] = field(default_factory=list)
    folders: set[tuple[str, ...]] = field(default_factory=set)
    ignored: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def readable() -> frozenset[str]:
    """Extensions of the image files that Pillow decodes, with its registered plugins.

    Example:
        >>> from lkd.data.folders import readable
        >>> {".bmp", ".gif", ".jpg", ".png", ".ppm", ".webp"} <= readable()
        True
    """
    formats = Image.registered_extensions().items()
    return frozenset(ending for ending, kind in formats if kind in Image.OPEN and kind not in NO_PIXELS)


def ignore_rule(name: str) -> str:
    """The rule that ignores a file or folder of this name, with its content; "" if there is none.

    Example:
        >>> from lkd.data.folders import ignore_rule
        >>> ignore_rule(".ipynb_checkpoints"), ignore_rule("Thumbs.db"), ignore_rule("cat")
        ('hidden', 'system', '')
    """
    if name.startswith("."):
        return "hidden"
    return "system" if name.lower() in SYSTEM else ""


def in_folder(path: Path) -> Contents:
    """List everything in a folder. Links are followed, except links to a parent folder.

    Raises:
        FileNotFoundError: a broken link.
        OSError: a folder that cannot be listed.
        ValueError: two paths to one folder; more than 100 nested folders; images in a format that Pillow cannot read,
            or with a wrong extension; a FIFO, socket or device; a name that is not valid UTF-8.
    """
    root = path.resolve()
    walk = _Walk(readable(), {_identity(str(folder)): str(folder) for folder in (root, *root.parents)})
    walk.into(str(path), (), frozenset(walk.seen))
    walk.contents.pictures.sort(key=lambda picture: picture.name)
    return walk.contents


@dataclass
class _Walk:
    """A recursive listing of a folder."""

    endings: frozenset[str]
    seen: dict[tuple[int, int], str]
    contents: Contents = field(default_factory=Contents)

    def into(self, path: str, folders: tuple[str, ...], above: frozenset[tuple[int, int]]) -> None:
        for entry in _entries(path):
            name = "/".join((*folders, entry.name))
            if rule := ignore_rule(entry.name):
                self.contents.ignored[rule].append(name)
            elif _is_folder(entry):
                self._folder(entry, (*folders, entry.name), above)
            elif is_image(entry.path, self.endings, partial(_head, entry.path)):
                self.contents.pictures.append(Picture(name, folders, _inode(entry)))
            else:
                self.contents.ignored["other"].append(name)

    def _folder(self, entry: os.DirEntry[str], folders: tuple[str, ...], above: frozenset[tuple[int, int]]) -> None:
        identity = _identity(entry.path)
        if identity in above:
            self.contents.ignored["loop"].append("/".join(folders))
        elif identity in self.seen:
            raise ValueError(
                f"{entry.path} and {self.seen[identity]} are the same folder, and its images would count twice: "
                "remove the link"
            )
        elif len(folders) > _DEEPEST:
            raise ValueError(f"{entry.path} is nested in more than {_DEEPEST} folders: move it up, or remove it")
        else:
            self.seen[identity] = entry.path
            self.contents.folders.add(folders)
            self.into(entry.path, folders, above | {identity})


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise OSError(f"{path} cannot be listed ({error.strerror}): change its permissions, or remove it") from error


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116, creating a Path takes longer than listing the folder
    return found.st_dev, found.st_ino


def _inode(entry: os.DirEntry[str]) -> int:
    return entry.stat().st_ino if entry.is_symlink() else entry.inode()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, not a file.

    Raises:
        FileNotFoundError: a broken link.
        ValueError: neither a folder nor a file.
    """
    if entry.is_symlink():
        check_link(Path(entry.path))
    if not (folder := entry.is_dir()) and not entry.is_file():
        check_readable(Path(entry.path))
    return folder


def check_readable(path: Path) -> None:
    """Refuse paths that are neither a folder nor a regular file.

    Raises:
        FileNotFoundError: a broken link.
        ValueError: a FIFO, which blocks; a socket; a device, which may never end.
    """
    check_link(path)
    mode = path.stat().st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        kind = "FIFO" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise ValueError(f"{path} is a {kind}, which cannot be read as a file: remove it")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read it, without blocking on a FIFO that has replaced it.

    Raises:
        ValueError: not a regular file; see `check_readable`.
    """
    file = open(path, "rb", opener=_nonblocking)  # noqa: SIM115, Path.open takes no opener
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        check_readable(path)
    return file


def _nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def check_link(path: Path) -> None:
    """Refuse a broken link.

    Raises:
        FileNotFoundError: the link's target does not exist.
    """
    if path.is_symlink() and not os.path.exists(path):  # noqa: PTH110, Path.exists fails on a link to itself
        raise FileNotFoundError(f"{path} is a link to {path.readlink()}, which does not exist: fix or remove the link")


def _head(path: str) -> bytes:
    try:
        with open_regular(Path(path)) as file:
            return file.read(12)
    except OSError:
        return b""


def is_image(path: str, endings: frozenset[str], head: Callable[[], bytes]) -> bool:
    """Whether a file is an image, by its extension.

    Args:
        path: path of the file.
        endings: extensions of images, in lower case.
        head: returns the first bytes of the file; called if the extension is unknown.

    Raises:
        ValueError: an image in a format that cannot be read, or without an image's extension; a name that is not valid
            UTF-8.
    """
    ending = os.path.splitext(path)[1].lower()  # noqa: PTH122, creating a Path for each image takes too long
    if ending in endings:
        _check_utf8(path)
        return True
    if ending in UNREADABLE:
        raise ValueError(f"{path} has a format that Pillow cannot read ({ending}): convert it to .png or .jpg")
    if ending not in DATA and (kind := _format(head())):
        raise ValueError(f"{path} is an image ({kind}) without a matching extension: rename or remove it")
    return False


def _check_utf8(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{path!a} is not valid UTF-8: rename it, for example with convmv") from error


def _format(head: bytes) -> str:
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "WEBP"
    return next((kind for kind, starts in HEADS.items() if head.startswith(starts)), "")
