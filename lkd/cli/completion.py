"""Shell completion, without heavy imports."""

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from lkd.runs.catalogue import run_folders
from lkd.util.files import CHECKOUT, home_folder

_DATA = ("digits", "fashion_mnist", "tiny_imagenet_32", "cifar10_jpeg", "folder:", "tar:", "hfds:")
_REGISTERED = re.compile(r"^@register_model\ndef (\w+)", re.MULTILINE)
_OBJECTIVE = re.compile(r'^        "([\w+]+)": \w+,$', re.MULTILINE)


def chapters(incomplete: str) -> list[str]:
    """Chapters that start with `incomplete`."""
    return _beginning(incomplete, (path.stem for path in (CHECKOUT / "notebooks").glob("*.ipynb")))


def profiles(incomplete: str) -> list[str]:
    """Profiles that start with `incomplete`."""
    return _beginning(incomplete, (path.stem for path in (_package("lkd") / "profiles").glob("*.yaml")))


def objectives(incomplete: str) -> list[str]:
    """Objectives that start with `incomplete`."""
    source = (_package("lkd") / "objectives" / "by_name.py").read_text("utf8")
    return _beginning(incomplete, _OBJECTIVE.findall(source))


def data(incomplete: str) -> list[str]:
    """Data sets that start with `incomplete`."""
    return _beginning(incomplete, _DATA)


def runs(incomplete: str) -> list[str]:
    """Ids of finished runs that start with `incomplete`."""
    return _beginning(incomplete, (path.name for path in run_folders(home_folder())))


def models(incomplete: str) -> list[str]:
    """timm model names and ids of finished runs that start with `incomplete`."""
    sources = (path for package in ("lkd", "timm") for path in (_package(package) / "models").glob("*.py"))
    names = (name for path in sources for name in _REGISTERED.findall(path.read_text("utf8")))
    return _beginning(incomplete, names) + runs(incomplete)


def _package(name: str) -> Path:
    """The folder of a package, without importing it."""
    found = find_spec(name)
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
