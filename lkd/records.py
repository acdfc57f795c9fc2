"""Published records: what committed runs were and gave, without their weights, so that pages need no training.

The records of a profile are one archive, `book/published/<profile>.zip`: of each run its recipe, figures, history,
provenance, and what was measured on it. An index holds a digest of each; beside it stands what chapters take.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from lkd.files import PUBLISHED as FOLDER
from lkd.files import home, read_json, reading, replacing, require_checkout, sha256, writing
from lkd.manifest import write_manifest
from lkd.profiles import profile_name
from lkd.recipe import Recipe
from lkd.store import Store, remedy
from lkd.waiting import held

_INDEX, _FLOPS = "index.json", "flops.json"
_KEPT = ("recipe.json", "student.json", "metrics.json", "provenance.json", "history.csv")
_REMEDY = "take the file from the repository again"
_UNPACK_SECONDS = 600
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def publish(
    recipes: Iterable[Recipe], store: Store, path: Path, flops: Mapping[str, int] = MappingProxyType({})
) -> None:
    """Write the records of some runs, equal runs to equal bytes.

    Args:
        recipes: which.
        store: where the runs are.
        path: of the archive; it is replaced.
        flops: floating-point operations of all runs of a chapter, by its name.

    Raises:
        FileNotFoundError: a run that the store lacks.
    """
    index = {}
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for recipe in sorted(set(recipes), key=lambda recipe: recipe.run_id):
            run = store.find(recipe)
            if run is None:
                raise FileNotFoundError(f"the store {store.folder} lacks run {recipe.run_id}: run it first")
            files = [run.path / name for name in _KEPT] + sorted((run.path / "measured").glob("*.npz"))
            with reading(run.path, "run", remedy(run.path)):
                contents = {str(file.relative_to(run.path)): file.read_bytes() for file in files}
            for name, content in contents.items():
                archive.writestr(zipfile.ZipInfo(f"{recipe.run_id}/{name}", _LONG_AGO), content, zipfile.ZIP_DEFLATED)
            index[recipe.run_id] = _digest(contents)
        for name, values in ((_INDEX, index), (_FLOPS, dict(flops))):
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), json.dumps(values, indent=0), zipfile.ZIP_DEFLATED)


def profiles() -> list[str]:
    """The profiles of which there are records.

    Example:
        >>> from lkd.records import profiles
        >>> isinstance(profiles(), list)
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.zip"))


def ids(path: Path) -> list[str]:
    """The ids of the runs in an archive."""
    with _opened(path) as archive:
        return list(json.loads(archive.read(_INDEX)))


def published_flops(profile: str) -> dict[str, int]:
    """Floating-point operations of all runs of a chapter, by its name, where they are published."""
    path = FOLDER / f"{profile}.zip"
    if not path.is_file():
        return {}
    with _opened(path) as archive:
        return dict(json.loads(archive.read(_FLOPS)))


def published(profile: str) -> Store:
    """A store with the published records of a profile: its runs have no weights.

    Args:
        profile: its name; of a file of the user's there are none.

    Raises:
        FileNotFoundError: there are none; says of which profiles there are.
        ValueError: a record that was altered.
    """
    require_checkout("published records")
    name = profile_name(profile)
    path = FOLDER / f"{name}.zip"
    if not path.is_file():
        raise FileNotFoundError(
            f"no runs of profile {name!r} are published, but of {', '.join(profiles()) or 'none'}: run the chapter "
            "without published=True"
        )
    return unpacked(path)


def recipe_file(run_id: str) -> Path:
    """Where the recipe of a run lies, by its id: a run of this machine's store, or one that was published.

    Raises:
        KeyError: no run has that id.
    """
    for store in (Store(), *map(published, profiles())):
        file = store.folder / "runs" / run_id / "recipe.json"
        if file.is_file():
            return file
    raise KeyError(f"{run_id!r} is no file, and neither this machine's runs nor the published ones have that id")


def unpacked(path: Path) -> Store:
    """A store with the records of an archive, each checked against its id and its digest.

    Raises:
        OSError: the archive cannot be read, or the records cannot be written.
        ValueError: an archive that is damaged, or a record that was altered; says which.
        TimeoutError: another process has been unpacking for ten minutes.
    """
    with reading(path, "archive of records", _REMEDY):
        store = Store(home() / "published" / sha256(path)[:16])
    with held(store.lock("unpack"), f"unpacks {path}", _UNPACK_SECONDS):
        if not _is_whole(store.folder):
            _unpack(path, store.folder)
    return store


def _is_whole(folder: Path) -> bool:
    """Whether all records that were unpacked into a folder are still there."""
    index = folder / _INDEX
    if not index.exists():
        return False
    ids = read_json(index, f"remove {folder}, and repeat the command: the records are unpacked again")
    return all((folder / "runs" / run_id).is_dir() for run_id in ids)


def _unpack(path: Path, folder: Path) -> None:
    with _opened(path) as archive:
        index = dict(json.loads(archive.read(_INDEX)))
        names: dict[str, list[str]] = {}
        for name in archive.namelist():
            run_id, _, rest = name.partition("/")
            names.setdefault(run_id, []).append(rest)
        records = {
            run_id: {name: archive.read(f"{run_id}/{name}") for name in names.get(run_id, [])} for run_id in index
        }
    for run_id, contents in records.items():
        _check(path, run_id, index[run_id], contents)
        for name, content in contents.items():
            target = folder / "runs" / run_id / name
            with writing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        write_manifest(folder / "runs" / run_id, run_id)
    os.sync()
    with replacing(folder / _INDEX) as temporary:
        temporary.write_text(json.dumps(index))


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    with reading(path, "archive of records", _REMEDY), zipfile.ZipFile(path) as archive:
        yield archive


def _check(path: Path, run_id: str, digest: str, contents: dict[str, bytes]) -> None:
    told = f"the record {run_id} in {path} was altered"
    if _digest(contents) != digest:
        raise ValueError(f"{told}: its content is not what its digest says; {_REMEDY}")
    if (found := Recipe.from_dict(json.loads(contents["recipe.json"])).run_id) != run_id:
        raise ValueError(f"{told}: its recipe is that of run {found}; publish it anew with this version of lkd")


def _digest(contents: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name} {len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def beside(ours: pd.DataFrame, theirs: pd.DataFrame, cell: list[str], column: str) -> pd.DataFrame:
    """Means of a column by cell, ours beside the published ones, and whether the seeds' spread explains the difference.

    Args:
        ours, theirs: tidy tables, one row a run.
        cell: columns that a mean is taken for each entry of.
        column: what is averaged.

    Returns:
        One row for each cell of ours: mean, published mean, their difference, two standard deviations over seeds, and
        whether the difference is at most that large; missing where a cell was not published, or nothing was repeated.
    """
    mine, published = (table.groupby(cell, sort=False)[column].agg(["mean", "std"]) for table in (ours, theirs))
    joined = mine.join(published.add_suffix("_published"), how="left")
    difference, spread = joined["mean"] - joined["mean_published"], 2 * joined["std_published"]
    within = (difference.abs() <= spread).astype(object).where(difference.notna() & spread.notna(), None)
    table = pd.DataFrame(
        {
            "here": joined["mean"],
            "published": joined["mean_published"],
            "difference": difference,
            "two sd over runs": spread,
            "within": within,
        }
    )
    return table.reset_index()
