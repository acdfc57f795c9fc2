"""What lies in tar files, which are read without being unpacked."""

import functools
import os
import tarfile
from pathlib import Path
from typing import IO, NamedTuple, cast

from lkd.data.folders import LARGEST, Contents, Picture, aside, check_readable, is_image, readable, regular
from lkd.util.files import reading

SHARDS = (
    "a stream that can be replayed needs each image by itself, and shards of WebDataset are read from their beginning: "
    "unpack them, with a folder for every class, and name them 'folder:PATH', or pack these folders as PATH/train.tar "
    "and PATH/val.tar and name them 'tar:PATH'"
)
"""Why shards of WebDataset are refused."""

AFTER_END = 1 << 20
"""Bytes that may follow the last member of a tar file: two blocks of zeros, and those that fill tar's last record."""

_LONGEST_HEADER = 1 << 22
"""Bytes of a header with a long name or with attributes; tarfile reads each into memory whole."""

_NESTED = 8
"""How deep tar files may lie in tar files."""


class _Member(NamedTuple):
    """A file in a tar file.

    Attributes:
        name: as the tar file has it.
        parts: names of the folders that it lies in, and its own.
        offset, size: of its content.
    """

    name: str
    parts: tuple[str, ...]
    offset: int
    size: int


class _Archive(NamedTuple):
    """What a tar file holds, or one that is itself a member of a tar file.

    Attributes:
        path: of the tar file that lies on disk.
        files: the members that are files, or links to files.
        replaced: names of members that a later one of the same name replaces.
        folders: the folders that have a member of their own.
        inner: the tar files among the members, by name.
    """

    path: str
    files: tuple[_Member, ...]
    replaced: tuple[str, ...]
    folders: tuple[tuple[str, ...], ...]
    inner: dict[str, "_Archive"]


def in_tars(path: Path) -> Contents:
    """Everything in a tar file, or in the tar files of a folder.

    The images of a tar file that has some outside folders are in a folder of its own name; not so in the one tar file
    of a split.

    Raises:
        ValueError: a file that is damaged or no tar file; a shard of WebDataset; links to what is not in it; and what
            `lkd.data.folders.in_folder` refuses.
    """
    contents = Contents()
    if path.is_file():
        _add(contents, _archive(path), "", "")
    else:
        for file in path.iterdir():
            if not aside(file.name):
                check_readable(file)
            if is_tar(file):
                _add(contents, _archive(file), file.stem, f"{file.name}/")
            else:
                contents.ignored[aside(file.name) or "other"].append(file.name)
    contents.pictures.sort(key=lambda picture: picture.name)
    return contents


def is_tar(path: Path) -> bool:
    """Whether this is a tar file by its name, and not hidden."""
    return path.suffix.lower() == ".tar" and not aside(path.name) and path.is_file()


def _add(contents: Contents, archive: _Archive, own: str, prefix: str) -> None:
    """Add what a tar file holds; in a folder of its own name if it has images outside folders."""
    pictures, endings = [], readable()
    hidden: dict[str, str] = {}
    for member in archive.files:
        if place := _aside(member.parts):
            hidden["/".join(place)] = aside(place[-1])
        elif is_image(f"{archive.path}/{member.name}", endings, functools.partial(_head, archive.path, member.offset)):
            if member.size > LARGEST:
                raise ValueError(
                    f"{archive.path}/{member.name} has {member.size:,} bytes, more than any image that can be decoded: "
                    "pack without it"
                )
            pictures.append(member)
        else:
            contents.ignored["other"].append(prefix + member.name)
    _check_no_shard(archive, pictures)
    for name, rule in hidden.items():
        contents.ignored[rule].append(prefix + name)
    contents.ignored["replaced"] += [prefix + name for name in archive.replaced]
    above = (own,) if own and any(len(member.parts) == 1 for member in pictures) else ()
    contents.folders |= {above + folders for folders in archive.folders if not _aside(folders)}
    contents.pictures += [
        Picture(prefix + member.name, above + member.parts[:-1], (archive.path, member.offset, member.size))
        for member in pictures
    ]
    for name, inner in archive.inner.items():
        _add(contents, inner, Path(name).stem, f"{prefix}{name}/")


def _check_no_shard(archive: _Archive, pictures: list[_Member]) -> None:
    """Refuse images outside folders with labels beside them: 000000.jpg and 000000.cls."""
    labels = {_key(member): member.name for member in archive.files if member.name.lower().endswith((".cls", ".json"))}
    for member in pictures:
        if len(member.parts) == 1 and _key(member) in labels:
            raise ValueError(
                f"{archive.path} has {labels[_key(member)]!r} beside {member.name!r}, as shards of WebDataset have: "
                f"{SHARDS}"
            )


def _key(member: _Member) -> tuple[str, ...]:
    """The folders and the name up to the first dot, by which WebDataset puts files together."""
    return *member.parts[:-1], member.parts[-1].partition(".")[0]


def _aside(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The first part that a rule leaves aside, with those before it; empty if there is none."""
    return next((parts[: place + 1] for place, part in enumerate(parts) if aside(part)), ())


def _head(path: str, offset: int) -> bytes:
    with regular(Path(path)) as file:
        file.seek(offset)
        return file.read(12)


def _archive(path: Path) -> _Archive:
    """What a tar file holds; read again when the file has changed."""
    found = path.stat()
    return _read(str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ino)


@functools.cache
def _read(path: str, *_: int) -> _Archive:
    with regular(Path(path)) as file:
        return _opened(file, path, path, 0, 0)


class _Headers:
    """A tar file as tarfile reads it, header by header; refuses to read a long one, of which a few bytes may boast."""

    def __init__(self, file: IO[bytes]):
        self.file, self.seek, self.tell, self.seekable = file, file.seek, file.tell, file.seekable

    def read(self, size: int) -> bytes:
        if size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.file.read(size)


def _opened(file: IO[bytes], path: str, name: str, start: int, depth: int) -> _Archive:
    """What the tar file holds that begins at byte `start` of the one at `path`, and lies in `depth` others."""
    if depth > _NESTED:
        raise ValueError(f"{name} lies in more than {_NESTED} tar files: unpack the outer ones")
    with reading(Path(name), "plain tar file", "unpack it if it is compressed, else make it again"):
        tar = tarfile.open(fileobj=cast(IO[bytes], _Headers(file)), mode="r:")  # noqa: SIM115, it closes nothing
        found = tar.getmembers()
    _check_end(file, tar.offset, name)
    return _listed(tar, found, path, name, start, depth)


def _check_end(file: IO[bytes], end: int, name: str) -> None:
    """Refuse a tar file that ends too early, or not where its members do: tarfile would leave out what follows."""
    file.seek(end)
    rest, marker = file.read(AFTER_END + 1), 2 * tarfile.BLOCKSIZE
    if len(rest) < marker or rest[:marker].strip(b"\0"):
        raise ValueError(f"{name} ends in the middle, or is damaged at byte {end:,}: copy or make it again")
    if len(rest) > AFTER_END or rest.strip(b"\0"):
        raise ValueError(
            f"{name} goes on after its end, like tar files joined by cat: put them into a folder of tar files instead"
        )


def _listed(
    tar: tarfile.TarFile, found: list[tarfile.TarInfo], path: str, name: str, start: int, depth: int
) -> _Archive:
    entries: dict[tuple[str, ...], tarfile.TarInfo] = {}
    replaced = []
    for info in found:
        parts = _parts(info.name)
        if (earlier := entries.pop(parts, None)) and not earlier.isdir():
            replaced.append(earlier.name)
        entries[parts] = info
    inner, files = {}, []
    for parts, info in entries.items():
        if info.isdir():
            continue
        if _aside(parts):
            files.append(_Member(info.name, parts, 0, 0))
        elif info.isfile() and info.name.lower().endswith(".tar"):
            content = tar.extractfile(info)
            assert content is not None
            inner[info.name] = _opened(content, path, f"{name}/{info.name}", start + info.offset_data, depth + 1)
        else:
            held = _held(parts, entries, name)
            files.append(_Member(info.name, parts, start + held.offset_data, held.size))
    folders = tuple(parts for parts, info in entries.items() if info.isdir() and parts)
    return _Archive(path, tuple(files), tuple(replaced), folders, inner)


def _held(parts: tuple[str, ...], entries: dict[tuple[str, ...], tarfile.TarInfo], name: str) -> tarfile.TarInfo:
    """The member that has the content of another: itself, or what it links to."""
    first = entries[parts]
    info: tarfile.TarInfo | None = first
    followed = set()
    while info and (info.islnk() or info.issym()):
        followed.add(parts)
        beside = "" if info.islnk() else "/".join(parts[:-1])
        parts = _parts(os.path.normpath(f"{beside}/{info.linkname}"))
        info = entries.get(parts) if parts not in followed else None
    if info is None or info.isdir():
        raise ValueError(
            f"{name}/{first.name} is a link to {first.linkname}, which is no file in {name}: pack the files "
            "themselves, with tar --dereference --hard-dereference"
        )
    if not info.isfile() or info.issparse():
        kind = "stored sparsely" if info.isfile() else "a FIFO or a device"
        raise ValueError(f"{name}/{first.name} is {kind}, which cannot be read as a file: pack without it")
    return info


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split("/") if part not in ("", ".", ".."))
