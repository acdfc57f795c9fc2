"""Published records: committed results of runs, without weights, from which pages are built without training.

The records of a profile are one archive, `book/published/<profile>.zip`, with the recipe, metrics, history, provenance
and measurements of each run, an index with a digest of each run, and the operations of each chapter. Archives are
untrusted, and read by `lkd.util.archives`.
"""

import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

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
_MEMBER_NAMES = re.compile(rf"{re.escape(_INDEX)}|{re.escape(_FLOPS)}|{_HEX.pattern}/({_RECORD_FILES.pattern})")
_ARRAYS = re.compile(r"[^\0]+\.npy")

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
    ordered = sorted(set(recipes), key=lambda recipe: recipe.run_id)
    for recipe in ordered:
        _check_public(recipe)
    with replacing(path) as temporary:
        _pack(ordered, store, temporary, flops)
        try:
            ids(temporary)
        except ValueError as error:
            raise ValueError(f"{path} is not written, because it would not be readable: {error.__cause__}") from error


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


def _pack(recipes: Iterable[Recipe], store: Store, path: Path, flops: Mapping[str, int]) -> None:
    """Write an archive."""
    index = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for recipe in recipes:
            run = store.find(recipe)
            if run is None:
                raise FileNotFoundError(f"run {recipe.run_id} is missing in the store {store.folder}: run it first")
            with reading(run.path, "run", remedy(run.path)):
                contents = _contents(run.path)
                contents[_PROVENANCE] = _public_provenance(contents[_PROVENANCE], recipe)
            for name, content in contents.items():
                archive.writestr(zipfile.ZipInfo(f"{recipe.run_id}/{name}", _LONG_AGO), content, zipfile.ZIP_DEFLATED)
            index[recipe.run_id] = _record_digest(contents)
        for name, values in ((_INDEX, index), (_FLOPS, dict(flops))):
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), json.dumps(values, indent=0), zipfile.ZIP_DEFLATED)


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
        index, files = _index(archive), _record_files(archive)
        needed = [run_id for run_id, digest in index.items() if not _is_unpacked(folder / "runs" / run_id, digest)]
        records = {run_id: {name: archive.read(f"{run_id}/{name}") for name in files[run_id]} for run_id in needed}
    for run_id, contents in records.items():
        _check_record(path, run_id, index[run_id], contents)
    for run_id, contents in records.items():
        _write(folder, f"runs/{run_id}", contents)


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


def _index(archive: Archive) -> dict[str, str]:
    """The digest of each record, by run id."""
    index = _json_object(archive, _INDEX)
    for run_id, digest in index.items():
        if not (_HEX.fullmatch(run_id) and isinstance(digest, str) and _HEX.fullmatch(digest)):
            raise ValueError(f"{_INDEX} has {digest!r:.80} for {run_id!r:.80}, expected a digest for a run id")
    if strange := index.keys() ^ _record_files(archive).keys():
        raise ValueError(f"{min(strange)} is either in {_INDEX} or among the records, expected in both")
    return index


def _record_files(archive: Archive) -> dict[str, list[str]]:
    """File names of each record, by run id."""
    files: dict[str, list[str]] = {}
    for run_id, _, name in (name.partition("/") for name in archive.names):
        if name:
            files.setdefault(run_id, []).append(name)
    return files


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
