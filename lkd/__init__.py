"""Knowledge distillation with large-kernel teachers.

`import lkd` is light: modules that need torch are imported at first use, and models are registered when timm is
imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import wrapt

from lkd.util.old_names import accept_old_modules

if TYPE_CHECKING:
    from lkd.api import distill, train
    from lkd.engine import Options, run
    from lkd.recipe import Recipe
    from lkd.runs.store import Run

_HOMES = {
    "Options": "lkd.engine",
    "Recipe": "lkd.recipe",
    "Run": "lkd.runs.store",
    "distill": "lkd.api",
    "run": "lkd.engine",
    "train": "lkd.api",
}

_ROOMS = (
    "data", "engine", "erf", "export", "figures", "metrics", "models", "objectives", "ops", "paper", "planning",
    "profiles", "recipe", "robustness", "runs", "sparse", "study", "tables",
)  # fmt: skip
"""Public modules and packages, imported at first use."""

__all__ = ["Options", "Recipe", "Run", "distill", "run", "train"]


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name == "__version__":
        return import_module("lkd.runs.provenance").own_version()
    raise AttributeError(f"module 'lkd' has no attribute {name!r}")


wrapt.register_post_import_hook(lambda timm: import_module("lkd.models"), "timm")
accept_old_modules()
