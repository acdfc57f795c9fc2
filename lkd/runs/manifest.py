"""The manifest of a run: its id, and size and SHA-256 of each of its files, compared whenever the run is opened."""

import json
from pathlib import Path
from typing import Any

from lkd.util.files import read_json, reading, replacing, sha256

MANIFEST = "manifest.json"
RECORDS = ("recipe.json", "student.json", "metrics.json", "provenance.json", "history.csv")
"""Files that every run has, of a few kilobytes each."""
STUDENT, MASKS = "student.safetensors", "masks.safetensors"
"""Files of any size: the trained weights, and the masks of sparse training."""
_NAMES = (*RECORDS, STUDENT, MASKS)


def write_manifest(folder: Path, run_id: str) -> None:
    """Write the manifest of the files that a folder holds now.

    Raises:
        OSError: it cannot be written; names it and the remedy.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lkd.runs.manifest import RECORDS, check_records, write_manifest
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in RECORDS:
        ...     _ = (folder / name).write_text("{}")
        >>> write_manifest(folder, "0123456789abcdef")
        >>> check_records(folder, "0123456789abcdef", "make it again")
        True
    """
    there = [folder / name for name in _NAMES if (folder / name).exists()]
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in there}
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps({"run": run_id, "files": files}, indent=1))


def check_records(folder: Path, run_id: str, remedy: str) -> bool:
    """Compare the records of a run with its manifest, and the sizes of its weights.

    Args:
        folder: of the run.
        run_id: the id that it should have.
        remedy: for a file that was altered.

    Returns:
        True; False for a run that was made before lkd wrote manifests, of which nothing was compared.

    Raises:
        FileNotFoundError, OSError, ValueError: a file that is missing or was altered, or a folder of another run; names
            it and the remedy.
    """
    if not (folder / MANIFEST).exists() and not _expected(folder, remedy):
        return False
    files = _files(folder, run_id, remedy)
    for name in files:
        with reading(folder / name, "file of a run", remedy):
            if (size := (folder / name).stat().st_size) != files[name]["bytes"]:
                raise ValueError(f"it has {size:,} bytes, its manifest lists {files[name]['bytes']:,}")
    for name in RECORDS:
        _compare(folder / name, files[name], remedy)
    return True


def check_file(folder: Path, name: str, run_id: str, remedy: str) -> None:
    """Compare one file of a run with its manifest.

    Raises:
        FileNotFoundError, OSError, ValueError: as for `check_records`; also where the manifest does not list the file.
    """
    files = _files(folder, run_id, remedy)
    if name not in files:
        if (folder / name).exists():
            raise ValueError(f"{folder / name} is not listed in {MANIFEST}: {remedy}")
        raise FileNotFoundError(f"{folder / name} is missing: {remedy}")
    _compare(folder / name, files[name], remedy)


def _expected(folder: Path, remedy: str) -> bool:
    """Whether the provenance of a run says that it was made with a manifest."""
    return bool(read_json(folder / "provenance.json", remedy).get("manifest"))


def _files(folder: Path, run_id: str, remedy: str) -> dict[str, Any]:
    path = folder / MANIFEST
    content = read_json(path, remedy)
    with reading(path, "manifest of a run", remedy):
        files = dict(content["files"])
        if lacking := set(RECORDS) - set(files):
            raise ValueError(f"it does not list {', '.join(sorted(lacking))}")
        if unknown := set(files) - set(_NAMES):
            raise ValueError(f"it lists {', '.join(sorted(unknown))}")
        if not all({"bytes", "sha256"} <= set(each) for each in files.values()):
            raise ValueError("it lacks a size or a digest")
    if content.get("run") != run_id:
        raise ValueError(f"{folder} holds run {content.get('run')}, not {run_id}: {remedy}")
    return files


def _compare(path: Path, listed: dict[str, Any], remedy: str) -> None:
    with reading(path, "file of a run", remedy):
        if sha256(path) != listed["sha256"]:
            raise ValueError(f"it was altered after it was written: {MANIFEST} lists another SHA-256")
