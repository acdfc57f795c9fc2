"""Provenance of results: versions, code, hardware and data."""

import ast
import hashlib
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lkd.data import DataSet

_PACKAGE = Path(__file__).parents[1]
_COMPUTED_BY = ("engine/trainer.py", "engine/evaluate.py", "erf", "robustness")
"""Code that computes results, together with the modules that it imports."""
_COMPUTES_NOTHING = ("util", "runs")
REGISTERED_PROFILES = ("reference", "natural")
"""Profiles with a design that is registered before its runs."""
_RULES = ("paper/claims.yaml", *(f"profiles/{name}.yaml" for name in ("small", *REGISTERED_PROFILES)))
"""Files with the rules of the claims and with the designs of the registered profiles."""
_RECORDED_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy")


@lru_cache
def source_hash() -> str:
    """12 hexadecimal digits that depend on every line of the package."""
    digest = hashlib.sha256()
    for path in sorted(p for p in _PACKAGE.rglob("*") if p.suffix in (".py", ".yaml")):
        digest.update(f"{path.relative_to(_PACKAGE)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@lru_cache
def rules_hash() -> str:
    """12 hexadecimal digits that identify the rules and designs in force; see `lkd.paper.registry`."""
    contents = [hashlib.sha256((_PACKAGE / name).read_bytes()).hexdigest() for name in _RULES]
    return hashlib.sha256("".join(contents).encode()).hexdigest()[:12]


@lru_cache
def numerics_hash() -> str:
    """12 hexadecimal digits that depend on all code that can change a run's numbers.

    File names, comments, docstrings and the texts of errors do not count.
    """
    left = [path for place in _COMPUTED_BY for path in _modules(_PACKAGE / place)]
    contents: dict[Path, str] = {}
    while left:
        path = left.pop()
        if path not in contents and path.relative_to(_PACKAGE).parts[0] not in _COMPUTES_NOTHING:
            tree = ast.parse(path.read_text())
            left += _imported(tree)
            contents[path] = ast.dump(_OnlyCode().visit(tree))
    digests = sorted(hashlib.sha256(content.encode()).hexdigest() for content in contents.values())
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]


class _OnlyCode(ast.NodeTransformer):
    """Removes docstrings, what is raised, and imports from this package."""

    def visit(self, node: ast.AST) -> Any:
        """The reduced node; None for one that is removed."""
        if isinstance(node, ast.ImportFrom) and _is_lkd(node):
            return None
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return ast.Raise() if isinstance(node, ast.Raise) else self.generic_visit(node)


def _is_lkd(node: ast.ImportFrom) -> bool:
    return (node.module or "").partition(".")[0] == "lkd"


def _imported(tree: ast.Module) -> Iterator[Path]:
    """The files of this package that a module imports, at the top level or inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_lkd(node):
            place = _PACKAGE.joinpath(*str(node.module).split(".")[1:])
            yield from _module_files(place)
            for alias in node.names:
                yield from _module_files(place / alias.name)


def _module_files(place: Path) -> Iterator[Path]:
    """The file of a module or package, if it exists."""
    yield from (path for path in (place.with_name(f"{place.name}.py"), place / "__init__.py") if path.is_file())


def _modules(place: Path) -> Iterator[Path]:
    yield from sorted(place.rglob("*.py")) if place.is_dir() else [place]


def provenance() -> dict[str, Any]:
    """Provenance of a result computed now: versions, hashes of the code, hardware, time.

    Example:
        >>> from lkd.runs.provenance import provenance
        >>> sorted(provenance())
        ['hardware', 'lkd', 'numerics', 'packages', 'python', 'rules', 'source', 'started']
    """
    return {
        "lkd": own_version(),
        "source": source_hash(),
        "numerics": numerics_hash(),
        "rules": rules_hash(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _RECORDED_PACKAGES},
        "hardware": _hardware(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def own_version() -> str:
    """The version of the installed package; "not installed" in a checkout on the path."""
    try:
        return version("lkd")
    except PackageNotFoundError:
        return "not installed"


def data_provenance(data: "DataSet") -> dict[str, Any]:
    """Provenance of a data set: size, mean, std and number of images, and classes.

    Example:
        >>> from lkd.data import load
        >>> from lkd.runs.provenance import data_provenance
        >>> data_provenance(load("digits"))["size"]
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
    return processor()


def processor() -> str:
    """Number of logical cores of this machine, and the name of its CPU.

    Example:
        >>> from lkd.runs.provenance import processor
        >>> " x " in processor()
        True
    """
    return f"{os.cpu_count()} x {processor_name()}"


def processor_name() -> str:
    """The model name of this machine's CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
