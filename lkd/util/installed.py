"""Distinguishes code of installed packages from custom code."""

import functools
import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
import types
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_BY_NAME = {"torch", "torchvision", "timm", "numpy"}
_LKD = str(Path(__file__).parents[1]) + os.sep
_PYTHON = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))


def package(thing: Any) -> str | None:
    """The installed package of a function, class or module, with its version; None for custom code.

    PyTorch, torchvision, timm, NumPy, lkd and Python are named without a version.

    Example:
        >>> import torch
        >>> from lkd.util.installed import package
        >>> package(torch.nn.ReLU), package(lambda x: x)
        ('torch', None)
    """
    if isinstance(thing, types.FunctionType):
        return _installed(thing.__code__.co_filename)
    if isinstance(thing, types.ModuleType):
        return _package_of_module(thing.__name__)
    if isinstance(thing, type):
        return _package_of_module(thing.__module__) if _is_found(thing) else None
    if isinstance(thing, types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType):
        return _package_of_module(getattr(thing, "__module__", None) or "builtins")
    return None


def replaced_methods(kind: type) -> Iterator[tuple[str, types.FunctionType]]:
    """The methods of a class that were replaced: custom code, or a function defined under another name.

    Args:
        kind: a class of an installed package.

    Example:
        >>> from torch import nn
        >>> from lkd.util.installed import replaced_methods
        >>> list(replaced_methods(nn.ReLU))
        []
    """
    for name, value in sorted(vars(kind).items()):
        for function in _functions(value):
            if _is_generated(function) or function.__module__.startswith("torch._dynamo."):
                continue
            if not package(function) or function.__qualname__ != f"{kind.__qualname__}.{name}":
                yield name, function


def code_of(module: str) -> types.CodeType | bytes | None:
    """The compiled code of a module, or the bytes of an extension; None for an installed package or without a file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if module not in sys.modules:
        with suppress(ImportError, ValueError):
            file = getattr(importlib.util.find_spec(module), "origin", None)
    if not file or _installed(file) or not Path(file).is_file():
        return None
    content = Path(file).read_bytes()
    return compile(content, "module", "exec") if file.endswith(".py") else content


def _functions(value: Any) -> list[types.FunctionType]:
    """The functions of a class attribute."""
    held: list[Any]
    if isinstance(value, staticmethod | classmethod):
        held = [value.__func__]
    elif isinstance(value, property):
        held = [value.fget, value.fset, value.fdel]
    else:
        held = [value.func if isinstance(value, functools.partialmethod) else value]
    return [each for each in held if isinstance(each, types.FunctionType)]


def _is_generated(function: types.FunctionType) -> bool:
    """Whether a function was generated at run time, as a dataclass's methods are; notebook cells have longer names."""
    return function.__code__.co_filename == "<string>"


def _is_found(kind: type) -> bool:
    """Whether a class is the attribute of its module under its name, and not created at run time."""
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind


def _package_of_module(name: str) -> str | None:
    module = sys.modules.get(name)
    if file := getattr(module, "__file__", None):
        return _installed(file)
    return "python" if name.partition(".")[0] in sys.stdlib_module_names - {"__main__"} else None


@functools.cache
def _installed(file: str) -> str | None:
    """The package of an installed file; None for a custom file or a notebook's cell."""
    parts = Path(file).parts
    if file.startswith(_LKD):
        return "lkd"
    for place, part in enumerate(parts[:-1]):
        if part in ("site-packages", "dist-packages"):
            top = parts[place + 1].partition(".")[0]
            return top if top in _BY_NAME else f"{top} {_package_version(top)}"
    return "python" if file.startswith((*_PYTHON, "<frozen ")) else None


@functools.cache
def _package_version(package: str) -> str:
    names = importlib.metadata.packages_distributions().get(package, [package])
    try:
        return importlib.metadata.version(names[0])
    except importlib.metadata.PackageNotFoundError:
        return ""
