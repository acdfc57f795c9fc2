"""Published records: results of runs without weights, from which the book is built without training.

The records of a profile are one archive, `book/published/<profile>.zip`, with the recipe, metrics, history, provenance,
predictions and measurements of each run, an index with a digest of each run, and the operations of each chapter. Files
of one name are stored together, as they compress well: `0/metrics.json` contains the metrics of all runs of batch 0, in
the order of the index. Predictions, on which runs mostly agree, are interleaved image by image. Archives are untrusted,
and read by `lkd.util.archives`.
"""

import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lkd.recipe import Recipe
from lkd.runs.manifest import RECORDS, write_manifest
from lkd.runs.predictions import PREDICTIONS
from lkd.runs.public_names import profile_name, public
from lkd.runs.store import Store, check_shape, remedy
from lkd.util.archives import Archive, open_archive, path_within
from lkd.util.files import PUBLISHED as FOLDER
from lkd.util.files import home, reading, replacing, require_checkout, sha256, writing
from lkd.util.waiting import held

_INDEX, _FLOPS = "index.json", "flops.json"
_PROVENANCE = "provenance.json"

_HEX = re.compile("[0-9a-f]{16}")
"""Pattern of run ids and digests."""
_RECORD_FILES = re.compile("|".join(map(re.escape, (*RECORDS, PREDICTIONS))) + r"|measured/[a-z0-9_]+-[0-9a-f]{8}\.npz")
_MEMBER_NAMES = re.compile(rf"{re.escape(_INDEX)}|{re.escape(_FLOPS)}|\d{{1,4}}/({_RECORD_FILES.pattern})")
_ARRAYS = re.compile(r"[^\0]+\.npy")

_BATCH = 128
"""Runs in a batch: few enough for the limits of `lkd.util.archives`."""
_MOST_FLOPS = 1e30
_REMEDY = "take the file from the repository again"
_UNPACK_SECONDS = 600
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def publish(
    recipes: Iterable[Recipe], store: Store, path: Path, flops: Mapping[str, int] = MappingProxyType({})
) -> None:
    """Write the records of runs to an archive; equal runs give equal bytes.

    Args:
        recipes: recipes of the runs.
        store: the store with the runs.
        path: the archive to write or replace.
        flops: floating-point operations of all runs of a chapter, by chapter.

    Raises:
        FileNotFoundError: a run is missing in the store.
        ValueError: a recipe, which determines the run's id, contains paths of this machine; the archive is too large.
    """
    ordered = sorted(set(recipes), key=_similarity)
    for recipe in ordered:
        _check_public(recipe)
    with replacing(path) as temporary:
        _pack(ordered, store, temporary, flops)
        try:
            ids(temporary)
        except ValueError as error:
            raise ValueError(f"{path} is not written, because it would not be readable: {error.__cause__}") from error


def _similarity(recipe: Recipe) -> str:
    """A key that sorts similar runs next to each other, for compression."""
    return json.dumps(recipe.to_dict(), sort_keys=True)


def _check_public(recipe: Recipe) -> None:
    """Refuse a recipe with paths of this machine: without them, its run id would change."""
    for name, value in recipe.to_dict().items():
        if public(value) != value:
            raise ValueError(
                f"run {recipe.run_id} cannot be published: {name} of its recipe is a path of this machine, "
                f"{value!r:.200}: put the data into {home() / 'data'}, use a path relative to it, and run it again"
            )


def _public_provenance(provenance: bytes, recipe: Recipe) -> bytes:
    """The provenance of a run for publication, with paths of image files relative to the data's folder."""
    folder = home() / "data" / Path(recipe.data.partition(":")[2]).expanduser()
    return json.dumps(public(json.loads(provenance), folder), indent=1).encode()


class _Entry(NamedTuple):
    """A run in the index of an archive: its batch, the digest of its record, and the size of each file, by name."""

    batch: int
    digest: str
    files: dict[str, int]


def _pack(recipes: Sequence[Recipe], store: Store, path: Path, flops: Mapping[str, int]) -> None:
    """Write an archive."""
    index: dict[str, _Entry] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:

        def write(name: str, content: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), content, zipfile.ZIP_DEFLATED)

        for batch, first in enumerate(range(0, len(recipes), _BATCH)):
            files: dict[str, list[bytes]] = {}
            for recipe in recipes[first : first + _BATCH]:
                contents = _record(recipe, store)
                sizes = {name: len(content) for name, content in contents.items()}
                index[recipe.run_id] = _Entry(batch, _record_digest(contents), sizes)
                for name, content in contents.items():
                    files.setdefault(name, []).append(content)
            for name, each in sorted(files.items()):
                write(f"{batch}/{name}", _joined(name, each))
        for name, values in ((_INDEX, index), (_FLOPS, dict(flops))):
            write(name, json.dumps(values, separators=(",", ":")).encode())


def _record(recipe: Recipe, store: Store) -> dict[str, bytes]:
    """The files of a run for publication, by name: arrays are not compressed, provenance has no private paths."""
    run = store.find(recipe)
    if run is None:
        raise FileNotFoundError(f"run {recipe.run_id} is missing in the store {store.folder}: run it first")
    with reading(run.path, "run", remedy(run.path)):
        contents = _contents(run.path)
        contents[_PROVENANCE] = _public_provenance(contents[_PROVENANCE], recipe)
        return {name: _inflated(each) if name.endswith(".npz") else each for name, each in contents.items()}


def _inflated(content: bytes) -> bytes:
    """A file of arrays without compression, which compresses better beside similar files."""
    file = io.BytesIO()
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _joined(name: str, contents: Sequence[bytes]) -> bytes:
    """The files of one name as one: one after another, or interleaved byte by byte."""
    joined = b"".join(contents)
    return _transposed(joined, len(contents)) if _is_interleaved(name, list(map(len, contents))) else joined


def _split(name: str, joined: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The files of `_joined`, by their sizes."""
    if sum(sizes) != len(joined):
        raise ValueError(f"{name} has {len(joined):,} bytes, {_INDEX} lists {sum(sizes):,}")
    if _is_interleaved(name, sizes):
        joined = _transposed(joined, sizes[0])
    ends = list(accumulate(sizes))
    return [joined[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _is_interleaved(name: str, sizes: Sequence[int]) -> bool:
    return name == PREDICTIONS and len(set(sizes)) == 1


def _transposed(joined: bytes, rows: int) -> bytes:
    return np.frombuffer(joined, np.uint8).reshape(rows, -1).T.tobytes()


def profiles() -> list[str]:
    """The profiles with published records.

    Example:
        >>> from lkd.runs.published import profiles
        >>> isinstance(profiles(), list)
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.zip"))


def ids(path: Path) -> list[str]:
    """The ids of the runs in an archive."""
    with _open_records(path) as archive:
        return list(_index(archive))


def published_flops(profile: str) -> dict[str, int]:
    """Published floating-point operations of all runs of a chapter, by chapter."""
    path = FOLDER / f"{profile}.zip"
    if not path.is_file():
        return {}
    with _open_records(path) as archive:
        flops = _json_object(archive, _FLOPS)
        for chapter, count in flops.items():
            if not isinstance(count, int) or not 0 <= count < _MOST_FLOPS:
                raise ValueError(f"{_FLOPS} gives {count!r} operations for {chapter!r}")
    return flops


def published(profile: str) -> Store:
    """A store with the published records of a profile; its runs have no weights.

    Args:
        profile: name of the profile; custom profiles have no published records.

    Raises:
        FileNotFoundError: the profile has no records; names the profiles that have.
        ValueError: a record was altered.
    """
    require_checkout("published records")
    name = profile_name(profile)
    path = FOLDER / f"{name}.zip"
    if not path.is_file():
        raise FileNotFoundError(
            f"no runs of profile {name!r} are published (published profiles: {', '.join(profiles()) or 'none'}): run "
            "the chapter without published=True"
        )
    return unpacked(path)


def recipe_file(run_id: str) -> Path:
    """The path of a run's recipe, by the id of a run in this machine's store or the published records.

    Raises:
        KeyError: no run has this id.
    """
    for store in (Store(), *map(published, profiles())):
        file = store.folder / "runs" / run_id / "recipe.json"
        if file.is_file():
            return file
    raise KeyError(f"{run_id!r} is neither a file nor the id of a run in this machine's store or the published records")


def unpacked(path: Path) -> Store:
    """A store with the records of an archive, each verified against its id and its digest.

    Records that are already unpacked are verified again, and replaced if they were altered.

    Raises:
        OSError: the archive cannot be read, or the records cannot be written.
        ValueError: the archive is damaged, or a record was altered; names it.
        TimeoutError: another process has been unpacking for ten minutes.
    """
    with reading(path, "archive of records", _REMEDY):
        store = Store(home() / "published" / sha256(path)[:16])
    with held(store.lock("unpack"), f"unpacks {path}", _UNPACK_SECONDS):
        _unpack(path, store.folder)
    return store


def _unpack(path: Path, folder: Path) -> None:
    """Write missing and altered records of a folder from an archive, after checking all of them."""
    with _open_records(path) as archive:
        index = _index(archive)
        needed = {run_id for run_id, each in index.items() if not _is_unpacked(folder / "runs" / run_id, each.digest)}
        records = {run_id: contents for run_id, contents in _records(archive, index, needed) if run_id in needed}
    for run_id, contents in records.items():
        _check_record(path, run_id, index[run_id].digest, contents)
    for run_id, contents in records.items():
        _write(folder, f"runs/{run_id}", contents)


def _records(
    archive: Archive, index: Mapping[str, _Entry], needed: Collection[str]
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the id and files of each record in the batches of the needed runs."""
    for batch in sorted({index[run_id].batch for run_id in needed}):
        entries = {run_id: entry for run_id, entry in index.items() if entry.batch == batch}
        contents: dict[str, dict[str, bytes]] = {run_id: {} for run_id in entries}
        for name in {name: None for entry in entries.values() for name in entry.files}:
            sizes = {run_id: entry.files[name] for run_id, entry in entries.items() if name in entry.files}
            parts = _split(name, archive.read(f"{batch}/{name}"), list(sizes.values()))
            for run_id, part in zip(sizes, parts, strict=True):
                contents[run_id][name] = part
        yield from contents.items()


def _write(folder: Path, record: str, contents: Mapping[str, bytes]) -> None:
    """Write the files of a record, replacing an existing record."""
    place = path_within(folder, record)
    with writing(place):
        shutil.rmtree(place, ignore_errors=True)
        for name, content in contents.items():
            target = path_within(folder, f"{record}/{name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        write_manifest(place, place.name)


def _is_unpacked(folder: Path, digest: str) -> bool:
    """Whether a folder contains the record with this digest."""
    try:
        return _record_digest(_contents(folder)) == digest
    except (OSError, ValueError):
        return False


def _contents(folder: Path) -> dict[str, bytes]:
    """The files of a run's record, by name."""
    optional = [folder / PREDICTIONS] if (folder / PREDICTIONS).exists() else []
    files = [folder / name for name in RECORDS] + optional + sorted((folder / "measured").glob("*.npz"))
    contents = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
    if strange := [name for name in contents if not _RECORD_FILES.fullmatch(name)]:
        raise ValueError(f"{strange[0]!r} is not the name of a measurement")
    return contents


@contextmanager
def _open_records(path: Path) -> Iterator[Archive]:
    with reading(path, "archive of records", _REMEDY), open_archive(path, _MEMBER_NAMES) as archive:
        yield archive


def _index(archive: Archive) -> dict[str, _Entry]:
    """The entry of each run, by run id."""
    index = {run_id: _checked_entry(run_id, values) for run_id, values in _json_object(archive, _INDEX).items()}
    listed = {f"{entry.batch}/{name}" for entry in index.values() for name in entry.files}
    if strange := listed ^ {name for name in archive.names if name not in (_INDEX, _FLOPS)}:
        raise ValueError(f"{min(strange)} is either in {_INDEX} or among the files, expected in both")
    return index


def _checked_entry(run_id: str, values: Any) -> _Entry:
    """An entry of the index: `_Entry` as a list."""
    with suppress(TypeError, ValueError, AttributeError):
        batch, digest, files = values
        whole = all(type(number) is int and number >= 0 for number in (batch, *files.values()))
        if whole and _HEX.fullmatch(run_id) and _HEX.fullmatch(digest):
            return _Entry(batch, digest, dict(files))
    raise ValueError(
        f"{_INDEX} has {values!r:.80} for {run_id!r:.80}, expected batch, digest and sizes of files for a run id"
    )


def _json_object(archive: Archive, name: str) -> dict[str, Any]:
    """The object in a JSON file of an archive."""
    content = json.loads(archive.read(name))
    if not isinstance(content, dict):
        raise ValueError(f"{name} contains a {type(content).__name__}, expected an object")
    return content


def _check_record(path: Path, run_id: str, digest: str, contents: Mapping[str, bytes]) -> None:
    """Refuse a record that does not match its id and digest, or has an unexpected student shape or measurement."""
    altered = f"the record {run_id} in {path} was altered"
    if _record_digest(contents) != digest:
        raise ValueError(f"{altered}: its content does not match its digest; {_REMEDY}")
    if missing := [name for name in RECORDS if name not in contents]:
        raise ValueError(f"{altered}: {missing[0]} is missing; {_REMEDY}")
    with reading(path / run_id / "recipe.json", "recipe of this version of lkd", _REMEDY):
        recipe = Recipe.from_stored(json.loads(contents["recipe.json"]))
    if recipe.run_id != run_id:
        raise ValueError(
            f"{altered}: its recipe is that of run {recipe.run_id}; publish it again with this version of lkd"
        )
    with reading(path / run_id / "student.json", "shape of a student", _REMEDY):
        check_shape(json.loads(contents["student.json"]), recipe)
    for name in contents.keys() - set(RECORDS):
        with reading(path / run_id / name, "measurement", _REMEDY), open_archive(io.BytesIO(contents[name]), _ARRAYS):
            pass


def _record_digest(contents: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name} {len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
