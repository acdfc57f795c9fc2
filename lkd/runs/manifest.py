"""The manifest of a run: its id, and the size and SHA-256 of each file, verified whenever the run is opened."""

import json
from pathlib import Path
from typing import Any

from lkd.runs.predictions import PREDICTIONS
from lkd.util.files import read_json, reading, replacing, sha256

MANIFEST = "manifest.json"
RECORDS = ("recipe.json", "student.json", "metrics.json", "provenance.json", "history.csv")
"""Files of every run, a few kilobytes each."""
STUDENT, MASKS = "student.safetensors", "masks.safetensors"
"""The trained weights, and the masks of sparse training."""
_RUN_FILES = (*RECORDS, PREDICTIONS, STUDENT, MASKS)


def write_manifest(folder: Path, run_id: str) -> None:
    """Write the manifest of a run's folder.

    Raises:
        OSError: the file cannot be written; names it and the remedy.

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
    paths = [folder / name for name in _RUN_FILES if (folder / name).exists()]
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in paths}
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps({"run": run_id, "files": files}, indent=1))


def check_records(folder: Path, run_id: str, remedy: str) -> bool:
    """Compare a run's records, and the sizes of its other files, with its manifest.

    Args:
        run_id: the expected id.
        remedy: the fix for an altered file, for the error message.

    Returns:
        True if the files were compared; False for a run from before manifests.

    Raises:
        FileNotFoundError, OSError, ValueError: a missing or altered file, or a folder of another run; names it and the
            remedy.
    """
    if not (folder / MANIFEST).exists() and not _expected(folder, remedy):
        return False
    files = _listed_files(folder, run_id, remedy)
    for name in files:
        with reading(folder / name, "file of a run", remedy):
            if (size := (folder / name).stat().st_size) != files[name]["bytes"]:
                raise ValueError(f"it has {size:,} bytes, {MANIFEST} lists {files[name]['bytes']:,}")
    for name in RECORDS:
        _compare(folder / name, files[name], remedy)
    return True


def check_file(folder: Path, name: str, run_id: str, remedy: str) -> None:
    """Compare one file of a run with its manifest.

    Raises:
        FileNotFoundError, OSError, ValueError: as for `check_records`; also where the manifest does not list the file.
    """
    files = _listed_files(folder, run_id, remedy)
    if name not in files:
        if (folder / name).exists():
            raise ValueError(f"{folder / name} is not listed in {MANIFEST}: {remedy}")
        raise FileNotFoundError(f"{folder / name} is missing: {remedy}")
    _compare(folder / name, files[name], remedy)


def _expected(folder: Path, remedy: str) -> bool:
    """Whether a run's provenance states that the run has a manifest."""
    return bool(read_json(folder / "provenance.json", remedy).get("manifest"))


def _listed_files(folder: Path, run_id: str, remedy: str) -> dict[str, Any]:
    path = folder / MANIFEST
    content = read_json(path, remedy)
    with reading(path, "manifest of a run", remedy):
        files = dict(content["files"])
        if missing := set(RECORDS) - set(files):
            raise ValueError(f"it does not list {', '.join(sorted(missing))}")
        if unknown := set(files) - set(_RUN_FILES):
            raise ValueError(f"it lists unknown files {', '.join(sorted(unknown))}")
        if not all({"bytes", "sha256"} <= set(each) for each in files.values()):
            raise ValueError("a size or a digest is missing")
    if content.get("run") != run_id:
        raise ValueError(f"{folder} contains run {content.get('run')}, not {run_id}: {remedy}")
    return files


def _compare(path: Path, listed: dict[str, Any], remedy: str) -> None:
    with reading(path, "file of a run", remedy):
        if sha256(path) != listed["sha256"]:
            raise ValueError(f"it was altered after it was written: {MANIFEST} lists another SHA-256")
