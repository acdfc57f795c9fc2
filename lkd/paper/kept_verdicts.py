"""Verdicts on the papers' claims as they were last found, for as long as no file that they rest on has changed.

To judge claims takes seconds, most of them to import PyTorch. What was found is therefore kept in `claims/` of lkd's
home, beside a digest of every file that was read for it. It counts only while each of these files has that digest and
the code is the same; it can be removed at any time, and is then found again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lkd.runs.provenance import source_hash
from lkd.util.files import read_json, reading, replacing

_PACKAGES = ("numpy", "pandas", "scipy", "timm", "torch")
_WEIGHTS = ".safetensors"
"""Ending of files that no claim is judged by."""

Rows = list[dict[str, Any]]
Grounds = Mapping[str, str | None]
"""By path, the digest of a file or folder; None where there is none."""


def grounds(paths: Iterable[Path]) -> Grounds:
    """What verdicts rest on, to be asked for before they are found.

    Args:
        paths: of the files, and of the runs' folders, there or not.
    """
    return {str(path): _digest(path) for path in paths}


def keep(home: Path, profile: str, found: Grounds, rows: Rows) -> None:
    """Keep verdicts, where lkd's home can be written to.

    Args:
        home: lkd's home.
        profile: the scale that was judged, by its name or YAML file.
        found: as `grounds` found it before the verdicts.
        rows: the verdicts as plain values.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lkd.paper.kept_verdicts import grounds, keep, kept
        >>> home = Path(tempfile.mkdtemp())
        >>> run = home / "runs" / "0123456789abcdef"
        >>> keep(home, "small", grounds([run]), [{"claim": "logits-help-at-all", "verdict": "not run"}])
        >>> kept(home, "small")
        [{'claim': 'logits-help-at-all', 'verdict': 'not run'}]
        >>> run.mkdir(parents=True)
        >>> kept(home, "small") is None
        True
    """
    content = {"code": _code(), "grounds": found, "rows": rows}
    with suppress(OSError), replacing(_place(home, profile)) as temporary:
        temporary.write_text(json.dumps({**content, "digest": _digest_of(content)}))


def kept(home: Path, profile: str) -> Rows | None:
    """The verdicts as they were last found; None where there are none, or something that they rest on has changed."""
    path = _place(home, profile)
    try:
        content = read_json(path, "remove it")
        with reading(path, "verdicts", "remove it"):
            whole = content.pop("digest") == _digest_of(content)
            if whole and content["code"] == _code() and grounds(map(Path, content["grounds"])) == content["grounds"]:
                rows: Rows = content["rows"]
                return rows
    except (OSError, ValueError):  # nothing kept, or damaged: it is found again
        pass
    return None


def _place(home: Path, profile: str) -> Path:
    name = Path(profile).expanduser().resolve() if profile.endswith((".yaml", ".yml")) else Path(profile)
    return home / "claims" / f"{name.stem}-{hashlib.sha256(str(name).encode()).hexdigest()[:8]}.json"


def _code() -> dict[str, str]:
    return {"lkd": source_hash(), **{name: version(name) for name in _PACKAGES}}


def _digest(path: Path) -> str | None:
    """Of a file; or of all files in a run's folder but its weights."""
    if not path.exists():
        return None
    digest = hashlib.sha256()
    for file in sorted(each for each in (path, *path.rglob("*")) if each.is_file() and each.suffix != _WEIGHTS):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(path)} {len(content)}\0".encode() + content)
    return digest.hexdigest()


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
