"""What lies in a folder: images, what a rule leaves aside, and what is refused by name."""

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
    "system": "of an operating system",
    "other": "of other kinds",
    "loop": "linking to a folder above",
    "empty": "without an image",
    "beside": "beside the splits",
    "replaced": "replaced later in the tar file",
}
"""Why something is left aside, in the words of `lkd data check`."""

SYSTEM = frozenset([
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "lost+found", "$recycle.bin",
    "#recycle", "system volume information"
])  # fmt: skip
"""Names, in small letters, of what operating systems and file servers leave in folders."""

DATA = frozenset([
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".md", ".rst", ".html",
    ".htm", ".pdf", ".log", ".py", ".ipynb", ".sh", ".mat", ".npy", ".npz", ".pt", ".pth", ".pkl", ".pickle",
    ".parquet", ".arrow", ".h5", ".hdf5", ".hdf", ".db", ".sqlite", ".lmdb", ".tfrecord", ".zip", ".tar", ".gz",
    ".tgz", ".bz2", ".xz", ".7z", ".rar", ".md5", ".sha1", ".sha256", ".sha512", ".asc", ".sig", ".doc", ".docx",
    ".xls", ".xlsx", ".mp4", ".avi", ".mov", ".wav", ".mp3"
])  # fmt: skip
"""Endings of files that are no images; their content is not looked at."""

UNREADABLE = frozenset([
    ".heic", ".heif", ".hif", ".avif", ".avifs", ".jxl", ".svg", ".eps", ".ai", ".wmf", ".emf", ".exr", ".hdr",
    ".dcm", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".djvu", ".webp", ".jp2", ".j2k",
    ".tif", ".tiff"
])  # fmt: skip
"""Endings of images, some of which Pillow reads only with a plugin or a library that may not be here."""

NO_PIXELS = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS", "IPTC", "PCD")
"""Formats that Pillow knows, but does not decode by itself."""

HEADS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*"),
}
"""How files of the most usual kinds of images begin."""


LARGEST = 1 << 30
"""Bytes of the largest file that is read as an image: as many as the largest image that Pillow decodes has as RGB."""

_DEEPEST = 100
"""How deep folders may lie in folders."""


class Picture(NamedTuple):
    """An image that was found.

    Attributes:
        name: its path below the split.
        folders: names of the folders that it lies in, below the split.
        place: inode of its file; or path, offset and size in a tar file.
    """

    name: str
    folders: tuple[str, ...]
    place: int | tuple[str, int, int]


@dataclass
class Contents:
    """Everything in a folder or tar file.

    Attributes:
        pictures: the images, in the order of their names.
        folders: the folders, whether they hold images or not; each by the names that lead to it.
        ignored: names of what is left aside, by key of `RULES`.
    """

    pictures: list[Picture] = field(default_factory=list)
    folders: set[tuple[str, ...]] = field(default_factory=set)
    ignored: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def readable() -> frozenset[str]:
    """Endings of the image files that Pillow decodes here, its registered plugins included.

    Example:
        >>> from lkd.data.folders import readable
        >>> {".bmp", ".gif", ".jpg", ".png", ".ppm", ".webp"} <= readable()
        True
    """
    kinds = Image.registered_extensions().items()
    return frozenset(ending for ending, kind in kinds if kind in Image.OPEN and kind not in NO_PIXELS)


def aside(name: str) -> str:
    """The rule that leaves a file or folder of this name aside with all that is in it; "" if there is none.

    Example:
        >>> from lkd.data.folders import aside
        >>> aside(".ipynb_checkpoints"), aside("Thumbs.db"), aside("cat")
        ('hidden', 'system', '')
    """
    if name.startswith("."):
        return "hidden"
    return "system" if name.lower() in SYSTEM else ""


def in_folder(path: Path) -> Contents:
    """Everything in a folder. Links are followed, except those that lead back to a folder above them.

    Raises:
        FileNotFoundError: a link to what is not there.
        OSError: a folder that cannot be listed.
        ValueError: two paths to one folder; folders in more than 100 others; images of a kind that Pillow does not
            read here, or under another ending; a FIFO, socket or device; a name that is no valid UTF-8.
    """
    root = path.resolve()
    walk = _Walk(readable(), {_identity(str(folder)): str(folder) for folder in (root, *root.parents)})
    walk.into(str(path), (), frozenset(walk.seen))
    walk.contents.pictures.sort(key=lambda picture: picture.name)
    return walk.contents


@dataclass
class _Walk:
    """A walk through a folder."""

    endings: frozenset[str]
    seen: dict[tuple[int, int], str]
    contents: Contents = field(default_factory=Contents)

    def into(self, path: str, folders: tuple[str, ...], above: frozenset[tuple[int, int]]) -> None:
        for entry in _entries(path):
            name = "/".join((*folders, entry.name))
            if rule := aside(entry.name):
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
                f"{entry.path} and {self.seen[identity]} are one folder, the images of which would count twice: "
                "remove the link"
            )
        elif len(folders) > _DEEPEST:
            raise ValueError(f"{entry.path} lies in more than {_DEEPEST} folders: move it up, or remove it")
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
    found = os.stat(path)  # noqa: PTH116, a Path for each folder would take longer than to list it
    return found.st_dev, found.st_ino


def _inode(entry: os.DirEntry[str]) -> int:
    return entry.stat().st_ino if entry.is_symlink() else entry.inode()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, not a file.

    Raises:
        FileNotFoundError: a link to what is not there.
        ValueError: neither a folder nor a file.
    """
    if entry.is_symlink():
        check_link(Path(entry.path))
    if not (folder := entry.is_dir()) and not entry.is_file():
        check_readable(Path(entry.path))
    return folder


def check_readable(path: Path) -> None:
    """Refuse what is neither a folder nor a file.

    Raises:
        FileNotFoundError: a link to what is not there.
        ValueError: a FIFO, which would be waited for; a socket; a device, which may never end.
    """
    check_link(path)
    mode = path.stat().st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        kind = "FIFO" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise ValueError(f"{path} is a {kind}, which cannot be read as a file: remove it")


def regular(path: Path) -> BinaryIO:
    """A file that is opened to be read; also what became a FIFO since it was listed is not waited for.

    Raises:
        ValueError: it is no file; see `check_readable`.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115, Path.open takes no opener
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        check_readable(path)
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def check_link(path: Path) -> None:
    """Refuse a link that leads nowhere.

    Raises:
        FileNotFoundError: what it links to is not there.
    """
    if path.is_symlink() and not os.path.exists(path):  # noqa: PTH110, Path.exists fails on a link to itself
        raise FileNotFoundError(f"{path} is a link to {path.readlink()}, which is not there: mend or remove the link")


def _head(path: str) -> bytes:
    try:
        with regular(Path(path)) as file:
            return file.read(12)
    except OSError:
        return b""


def is_image(path: str, endings: frozenset[str], head: Callable[[], bytes]) -> bool:
    """Whether a file is an image, by the ending of its name.

    Args:
        path: of the file.
        endings: of images, in small letters.
        head: gives the first bytes of its content; called where the ending says nothing.

    Raises:
        ValueError: an image of a kind that cannot be read here, or under an ending that does not say so; a name that
            is no valid UTF-8.
    """
    ending = os.path.splitext(path)[1].lower()  # noqa: PTH122, a Path for each image would take too long
    if ending in endings:
        _check_utf8(path)
        return True
    if ending in UNREADABLE:
        raise ValueError(f"{path} is of a kind that Pillow does not read here ({ending}): convert it to .png or .jpg")
    if ending not in DATA and (kind := _kind(head())):
        raise ValueError(f"{path} is an image ({kind}), which its name does not say: rename or remove it")
    return False


def _check_utf8(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{path!a} is no valid UTF-8: rename it, for example with convmv") from error


def _kind(head: bytes) -> str:
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "WEBP"
    return next((kind for kind, starts in HEADS.items() if head.startswith(starts)), "")
