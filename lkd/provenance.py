"""What a result comes from."""

import ast
import hashlib
import os
import platform
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lkd.data import DataSet

_NUMERICS = (
    "ops.py", "sparse.py", "metrics.py", "models/*.py", "objectives/*.py", "data/*.py", "engine/evaluate.py",
    "engine/lesson.py", "engine/loop.py", "engine/optimizer.py", "engine/outputs.py", "engine/setting.py",
    "engine/teacher.py", "engine/top_k.py", "erf/*.py", "robustness/*.py",
)  # fmt: skip
"""The code that makes numbers, below the package."""
_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy")


@lru_cache
def source_hash() -> str:
    """12 hexadecimal digits that change with any line of the package."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".yaml")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@lru_cache
def numerics_hash() -> str:
    """12 hexadecimal digits that change with code that can change a run's numbers, not with comments and docstrings."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(path for place in _NUMERICS for path in root.glob(place)):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(f"{path.relative_to(root)}\0{ast.dump(tree)}\0".encode())
    return digest.hexdigest()[:12]


def provenance() -> dict[str, Any]:
    """What a result made now comes from: versions, source hash, hardware, time.

    Example:
        >>> from lkd.provenance import provenance
        >>> sorted(provenance())
        ['hardware', 'lkd', 'numerics', 'packages', 'python', 'source', 'started']
    """
    return {
        "lkd": version("lkd"),
        "source": source_hash(),
        "numerics": numerics_hash(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "hardware": _hardware(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def of_data(data: "DataSet") -> dict[str, Any]:
    """The data that a network learned from: form, statistics and number of its images, and its classes.

    Example:
        >>> from lkd.data import load
        >>> from lkd.provenance import of_data
        >>> of_data(load("digits"))["size"]
        [1, 32, 32]
    """
    return {
        "size": [data.channels, *data.size],
        "mean": list(data.mean),
        "std": list(data.std),
        "classes": list(data.classes),
        "images": {name: len(split) for name, split in data.splits.items()},
    }


@lru_cache
def _hardware() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} x {names[0] if names else platform.processor() or platform.machine()}"
