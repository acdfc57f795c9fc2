"""List images in tar files, and read them without unpacking."""

import functools
import os
import tarfile
from pathlib import Path
from typing import IO, NamedTuple, cast

from lkd.data.folders import LARGEST, Contents, Picture, check_readable, ignore_rule, is_image, open_regular, readable
from lkd.util.files import reading

SHARDS = (
    "a reproducible stream needs random access to images, but shards of WebDataset allow only sequential reading: "
    "unpack them, with one folder per class, and use 'folder:PATH', or pack these folders as PATH/train.tar and "
    "PATH/val.tar and use 'tar:PATH'"
)
"""Why shards of WebDataset are refused."""

AFTER_END = 1 << 20
"""Maximum bytes after the last member of a tar file: two blocks of zeros, and the rest of the last record."""

_LONGEST_HEADER = 1 << 22
"""Size limit of a header with a long name or attributes, which tarfile reads into memory."""

_NESTED = 8
"""Limit of nested tar files."""


class _Member(NamedTuple):
    """A file in a tar file.

    Attributes:
        name: its name in the tar file.
        parts: names of its parent folders, and its own.
        offset, size: position and size of its content.
    """

    name: str
    parts: tuple[str, ...]
    offset: int
    size: int


class _Archive(NamedTuple):
    """Content of a tar file, which may be a member of another one.

    Attributes:
        path: path of the outermost tar file.
        files: members that are files, or links to files.
        replaced: names of members that a later member of the same name replaces.
        folders: folders that are members themselves.
        inner: members that are tar files, by name.
    """

    path: str
    files: tuple[_Member, ...]
    replaced: tuple[str, ...]
    folders: tuple[tuple[str, ...], ...]
    inner: dict[str, "_Archive"]


def in_tars(path: Path) -> Contents:
    """List everything in a tar file, or in the tar files of a folder.

    In a folder of tar files, a tar file with images outside folders counts as a folder of its own name.

    Raises:
        ValueError: a file that is damaged or not a tar file; a shard of WebDataset; a broken link; see also
            `lkd.data.folders.in_folder`.
    """
    contents = Contents()
    if path.is_file():
        _add(contents, _archive(path), "", "")
    else:
        for file in path.iterdir():
            if not ignore_rule(file.name):
                check_readable(file)
            if is_tar(file):
                _add(contents, _archive(file), file.stem, f"{file.name}/")
            else:
                contents.ignored[ignore_rule(file.name) or "other"].append(file.name)
    contents.pictures.sort(key=lambda picture: picture.name)
    return contents


def is_tar(path: Path) -> bool:
    """Whether this is a tar file by its name, and not hidden."""
    return path.suffix.lower() == ".tar" and not ignore_rule(path.name) and path.is_file()


def _add(contents: Contents, archive: _Archive, own: str, prefix: str) -> None:
    """Add the content of a tar file, in a folder named `own` if it has images outside folders."""
    pictures, endings = [], readable()
    hidden: dict[str, str] = {}
    for member in archive.files:
        if place := _ignored_part(member.parts):
            hidden["/".join(place)] = ignore_rule(place[-1])
        elif is_image(f"{archive.path}/{member.name}", endings, functools.partial(_head, archive.path, member.offset)):
            if member.size > LARGEST:
                raise ValueError(
                    f"{archive.path}/{member.name} has {member.size:,} bytes, more than any image that Pillow decodes: "
                    "remove it from the tar file"
                )
            pictures.append(member)
        else:
            contents.ignored["other"].append(prefix + member.name)
    _check_no_shard(archive, pictures)
    for name, rule in hidden.items():
        contents.ignored[rule].append(prefix + name)
    contents.ignored["replaced"] += [prefix + name for name in archive.replaced]
    above = (own,) if own and any(len(member.parts) == 1 for member in pictures) else ()
    contents.folders |= {above + folders for folders in archive.folders if not _ignored_part(folders)}
    contents.pictures += [
        Picture(prefix + member.name, above + member.parts[:-1], (archive.path, member.offset, member.size))
        for member in pictures
    ]
    for name, inner in archive.inner.items():
        _add(contents, inner, Path(name).stem, f"{prefix}{name}/")


def _check_no_shard(archive: _Archive, pictures: list[_Member]) -> None:
    """Refuse images outside folders that have a label file: 000000.jpg and 000000.cls."""
    labels = {_key(member): member.name for member in archive.files if member.name.lower().endswith((".cls", ".json"))}
    for member in pictures:
        if len(member.parts) == 1 and _key(member) in labels:
            raise ValueError(
                f"{archive.path} has {labels[_key(member)]!r} next to {member.name!r}, like a shard of WebDataset: "
                f"{SHARDS}"
            )


def _key(member: _Member) -> tuple[str, ...]:
    """WebDataset's key of a sample: the folders, and the name up to the first dot."""
    return *member.parts[:-1], member.parts[-1].partition(".")[0]


def _ignored_part(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The path up to the first part that a rule ignores; empty if there is none."""
    return next((parts[: place + 1] for place, part in enumerate(parts) if ignore_rule(part)), ())


def _head(path: str, offset: int) -> bytes:
    with open_regular(Path(path)) as file:
        file.seek(offset)
        return file.read(12)


def _archive(path: Path) -> _Archive:
    """Content of a tar file, cached until the file changes."""
    found = path.stat()
    return _read(str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ino)


@functools.cache
def _read(path: str, *_: int) -> _Archive:
    with open_regular(Path(path)) as file:
        return _read_archive(file, path, path, 0, 0)


class _Headers:
    """A file for tarfile that refuses to read overlong headers, as of a malicious file."""

    def __init__(self, file: IO[bytes]):
        self.file, self.seek, self.tell, self.seekable = file, file.seek, file.tell, file.seekable

    def read(self, size: int) -> bytes:
        if size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.file.read(size)


def _read_archive(file: IO[bytes], path: str, name: str, start: int, depth: int) -> _Archive:
    """Content of the tar file that starts at byte `start` of the one at `path`, nested in `depth` others."""
    if depth > _NESTED:
        raise ValueError(f"{name} is nested in more than {_NESTED} tar files: unpack the outer ones")
    with reading(Path(name), "plain tar file", "unpack it if it is compressed, else recreate it"):
        tar = tarfile.open(fileobj=cast(IO[bytes], _Headers(file)), mode="r:")  # noqa: SIM115, the caller closes the file
        found = tar.getmembers()
    _check_end(file, tar.offset, name)
    return _list_members(tar, found, path, name, start, depth)


def _check_end(file: IO[bytes], end: int, name: str) -> None:
    """Refuse a tar file that is truncated, or that continues after its end, where tarfile stops reading."""
    file.seek(end)
    rest, marker = file.read(AFTER_END + 1), 2 * tarfile.BLOCKSIZE
    if len(rest) < marker or rest[:marker].strip(b"\0"):
        raise ValueError(f"{name} is truncated, or damaged at byte {end:,}: copy or recreate it")
    if len(rest) > AFTER_END or rest.strip(b"\0"):
        raise ValueError(
            f"{name} continues after its end, like tar files joined with cat: put them into a folder instead"
        )


def _list_members(
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
        if _ignored_part(parts):
            files.append(_Member(info.name, parts, 0, 0))
        elif info.isfile() and info.name.lower().endswith(".tar"):
            content = tar.extractfile(info)
            assert content is not None
            inner[info.name] = _read_archive(content, path, f"{name}/{info.name}", start + info.offset_data, depth + 1)
        else:
            held = _resolve_links(parts, entries, name)
            files.append(_Member(info.name, parts, start + held.offset_data, held.size))
    folders = tuple(parts for parts, info in entries.items() if info.isdir() and parts)
    return _Archive(path, tuple(files), tuple(replaced), folders, inner)


def _resolve_links(
    parts: tuple[str, ...], entries: dict[tuple[str, ...], tarfile.TarInfo], name: str
) -> tarfile.TarInfo:
    """The member with the content of `parts`: itself, or the target of its links."""
    first = entries[parts]
    info: tarfile.TarInfo | None = first
    followed = set()
    while info and (info.islnk() or info.issym()):
        followed.add(parts)
        folder = "" if info.islnk() else "/".join(parts[:-1])
        parts = _parts(os.path.normpath(f"{folder}/{info.linkname}"))
        info = entries.get(parts) if parts not in followed else None
    if info is None or info.isdir():
        raise ValueError(
            f"{name}/{first.name} is a link to {first.linkname}, which is not a file in {name}: pack files "
            "instead of links, with tar --dereference --hard-dereference"
        )
    if not info.isfile() or info.issparse():
        kind = "stored sparsely" if info.isfile() else "a FIFO or a device"
        raise ValueError(f"{name}/{first.name} is {kind}, which cannot be read as a file: remove it from the tar file")
    return info


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split("/") if part not in ("", ".", ".."))
