"""Deprecated names of version 0.1: they work for one more version, with a warning."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {
    "lkd.engine.loop": "lkd.engine.trainer",
    "lkd.engine.outputs": "lkd.objectives.outputs",
    "lkd.engine.recording": "lkd.engine.tape_tools",
    "lkd.engine.setting": "lkd.engine.setup",
    "lkd.markdown": "lkd.util.markdown",
    "lkd.measure": "lkd.study.measure",
    "lkd.named": "lkd.runs.resolve",
    "lkd.paper.evidence": "lkd.study.chapters",
    "lkd.parameters": "lkd.book.parameters",
    "lkd.provenance": "lkd.runs.provenance",
    "lkd.public": "lkd.runs.public_names",
    "lkd.records": "lkd.runs.published",
    "lkd.store": "lkd.runs.store",
    "lkd.teachers": "lkd.models.released",
}
"""New module names, by old name."""

_REMOVED = "will be removed in the next version"


class _OldModules(MetaPathFinder, Loader):
    """Imports a module under its old name, as the same object."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MODULES[spec.name]
        warnings.warn(f"{spec.name} is now {new}: the old name {_REMOVED}", FutureWarning, stacklevel=2)
        module = import_module(new)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


def accept_old_modules() -> None:
    """Make modules importable by their old names."""
    sys.meta_path.append(_OldModules())


def renamed(module: str, name: str, names: Mapping[str, str]) -> Any:
    """Look up a module's attribute by its old name, with a warning; for the module's `__getattr__`.

    Args:
        module: the module's `__name__`.
        name: the old name.
        names: new names as "module:name", by old name.

    Raises:
        AttributeError: not an old name.

    Example:
        >>> from lkd.util.old_names import renamed
        >>> renamed("lkd.study", "no_such_name", {})
        Traceback (most recent call last):
        AttributeError: module 'lkd.study' has no attribute 'no_such_name'
    """
    if name not in names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    place, _, new = names[name].partition(":")
    warnings.warn(f"{module}.{name} is now {place}.{new}: the old name {_REMOVED}", FutureWarning, stacklevel=3)
    return getattr(import_module(place), new)
