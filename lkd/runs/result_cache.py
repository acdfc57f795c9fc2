"""Cache of slow results in lkd's home, each valid while the files behind it and the code are unchanged.

Verdicts on claims and costs of chapters take seconds, mostly to import PyTorch. Each is stored with a digest of every
file that it depends on. The folders can be removed at any time.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lkd.runs.provenance import source_hash
from lkd.util.files import json_digest, read_json, reading, replacing

_PACKAGES = ("numpy", "pandas", "scipy", "timm", "torch")
_WEIGHTS = ".safetensors"
"""Suffix of files that no result depends on."""

Digests = Mapping[str, str | None]
"""Digest of each file or folder, by path; None if missing."""


def input_digests(paths: Iterable[Path]) -> Digests:
    """Digests of the files behind a result; compute them before the result.

    Args:
        paths: files, and folders of runs; they may be missing.
    """
    return {str(path): _digest(path) for path in paths}


def cache_result(home: Path, kind: str, profile: str, inputs: Digests, result: Any) -> None:
    """Store a result, if lkd's home is writable.

    Args:
        home: lkd's home.
        kind: "claims" or "costs".
        profile: the scale, by its name or YAML file.
        inputs: `input_digests` of the files behind the result.
        result: plain values.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lkd.runs.result_cache import cache_result, cached_result, input_digests
        >>> home = Path(tempfile.mkdtemp())
        >>> run = home / "runs" / "0123456789abcdef"
        >>> cache_result(home, "claims", "small", input_digests([run]), [{"verdict": "not run"}])
        >>> cached_result(home, "claims", "small")
        [{'verdict': 'not run'}]
        >>> run.mkdir(parents=True)
        >>> cached_result(home, "claims", "small") is None
        True
    """
    content = {"code": _code(), "grounds": inputs, "result": result}
    with suppress(OSError), replacing(_path(home, kind, profile)) as temporary:
        temporary.write_text(json.dumps({**content, "digest": json_digest(content)}))


def cached_result(home: Path, kind: str, profile: str) -> Any:
    """The stored result; None if there is none, or if a file behind it has changed."""
    path = _path(home, kind, profile)
    try:
        content = read_json(path, "remove it")
        with reading(path, "cached result", "remove it"):
            whole, inputs = content.pop("digest") == json_digest(content), content["grounds"]
            if whole and content["code"] == _code() and input_digests(map(Path, inputs)) == inputs:
                return content["result"]
    except (OSError, ValueError):  # missing or damaged: the caller repeats the work
        pass
    return None


def _path(home: Path, kind: str, profile: str) -> Path:
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
