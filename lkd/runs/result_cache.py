"""Results kept in lkd's home until a file behind them changes.

Verdicts on claims and costs of chapters take seconds, most of them to import PyTorch. They are therefore kept, with a
digest of every file that was read for them, and are valid while these files and the code are unchanged. The folders can
be removed at any time.
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
"""Ending of files that no result depends on."""

Grounds = Mapping[str, str | None]
"""Digest of each file or folder, by path; None if missing."""


def grounds(paths: Iterable[Path]) -> Grounds:
    """Digests of the files behind a result, to be computed before the work.

    Args:
        paths: files, and folders of runs, which may be missing.
    """
    return {str(path): _digest(path) for path in paths}


def keep(home: Path, kind: str, profile: str, found: Grounds, result: Any) -> None:
    """Keep a result, if lkd's home is writable.

    Args:
        home: lkd's home.
        kind: "claims" or "costs".
        profile: the scale, by its name or YAML file.
        found: result of `grounds` before the work.
        result: plain values.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lkd.runs.result_cache import grounds, keep, kept
        >>> home = Path(tempfile.mkdtemp())
        >>> run = home / "runs" / "0123456789abcdef"
        >>> keep(home, "claims", "small", grounds([run]), [{"claim": "logits-help-at-all", "verdict": "not run"}])
        >>> kept(home, "claims", "small")
        [{'claim': 'logits-help-at-all', 'verdict': 'not run'}]
        >>> run.mkdir(parents=True)
        >>> kept(home, "claims", "small") is None
        True
    """
    content = {"code": _code(), "grounds": found, "result": result}
    with suppress(OSError), replacing(_place(home, kind, profile)) as temporary:
        temporary.write_text(json.dumps({**content, "digest": _digest_of(content)}))


def kept(home: Path, kind: str, profile: str) -> Any:
    """A kept result, or None if there is none or if a file behind it has changed."""
    path = _place(home, kind, profile)
    try:
        content = read_json(path, "remove it")
        with reading(path, "kept result", "remove it"):
            whole = content.pop("digest") == _digest_of(content)
            if whole and content["code"] == _code() and grounds(map(Path, content["grounds"])) == content["grounds"]:
                return content["result"]
    except (OSError, ValueError):  # missing or damaged: the caller repeats the work
        pass
    return None


def _place(home: Path, kind: str, profile: str) -> Path:
    name = Path(profile).expanduser().resolve() if profile.endswith((".yaml", ".yml")) else Path(profile)
    return home / kind / f"{name.stem}-{hashlib.sha256(str(name).encode()).hexdigest()[:8]}.json"


def _code() -> dict[str, str]:
    return {"lkd": source_hash(), **{name: version(name) for name in _PACKAGES}}


def _digest(path: Path) -> str | None:
    """Digest of a file, or of all files in a run's folder except weights."""
    if not path.exists():
        return None
    digest = hashlib.sha256()
    for file in sorted(each for each in (path, *path.rglob("*")) if each.is_file() and each.suffix != _WEIGHTS):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(path)} {len(content)}\0".encode() + content)
    return digest.hexdigest()


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
