"""Parameters of notebooks: declarations in the parameter cell, and checks of values against them.

A value of another type is refused, never converted: `papermill -p published false` passes the text "false", which is
true in Python.
"""

import ast
import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from lkd.util.checks import check_list, unknown
from lkd.util.values import read_value, typed


class Kind(NamedTuple):
    """A type of parameters.

    Attributes:
        called: its name in messages.
        fits: whether a value has this type.
        form: a placeholder for a value; invalid in every shell.
        entry: the type of the entries of a list.
    """

    called: str
    fits: Callable[[Any], bool]
    form: str
    entry: "Kind | None" = None


class Declared(NamedTuple):
    """A parameter as declared in a notebook. If the default is None, None is allowed.

    Attributes:
        kind: a key of `KINDS`.
        default: a Python literal.
    """

    kind: str
    default: str


def _list_of(kind: Kind, plural: str) -> Kind:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and all(map(kind.fits, value))

    return Kind(f"a list of {plural}", fits, f"[{kind.form}, ...]", kind)


_TEXT = Kind("a text that is not empty", lambda value: isinstance(value, str) and bool(value.strip()), "<text>")
_WHOLE = Kind("a whole number", lambda value: type(value) is int, "<whole number>")
_NUMBER = Kind("a number", lambda value: type(value) in (int, float) and math.isfinite(value), "<number>")
KINDS = {
    "bool": Kind("True or False", lambda value: isinstance(value, bool), "<True or False>"),
    "int": _WHOLE,
    "float": _NUMBER,
    "str": _TEXT,
    "list[int]": _list_of(_WHOLE, "whole numbers"),
    "list[float]": _list_of(_NUMBER, "numbers"),
    "list[str]": _list_of(_TEXT, "texts"),
    "dict": Kind(
        "a mapping", lambda value: isinstance(value, dict) and all(map(_TEXT.fits, value)), "{<name>: <value>}"
    ),
}
"""The types of parameters, by annotation."""

_WORDS = {"yes": True, "on": True, "1": True, "no": False, "off": False, "0": False}
_INJECTED = "# Parameters"
"""First line of the cell added by papermill."""

_OF_PAPERMILL = "PAPERMILL_"
"""Prefix of the names that papermill adds with `--inject-paths`."""


def check_parameters(notebook: Mapping[str, Any]) -> None:
    """Refuse undeclared parameters of a running notebook, and values of another type than declared.

    Call it in the first cell after the parameter cell and papermill's own cell.

    Args:
        notebook: its variables, `globals()`.

    Raises:
        KeyError: an undeclared parameter, with the nearest declared one.
        LookupError: the parameter cell was not run.
        TypeError: a value of another type, with the syntax for papermill and `lkd run`.
        ValueError: an empty list, or one with duplicates.

    Example:
        >>> from lkd.book.parameters import check_parameters
        >>> cells = ["published: bool = False", "# Parameters\\npublished = True", "check_parameters(globals())"]
        >>> check_parameters({"In": cells, "published": True})
    """
    declared, injected = _declared_and_injected(notebook["In"][:-1])
    names = [*declared, *(name for name in injected if not name.startswith(_OF_PAPERMILL))]
    check_values(declared, {name: notebook[name] for name in names})


def check_values(declared: Mapping[str, Declared], given: Mapping[str, Any], kind: str = "parameter") -> None:
    """Refuse values that do not match the declarations of a notebook.

    Args:
        declared: declarations by name.
        given: values by name.
        kind: the noun for an unknown name in the message.

    Raises:
        KeyError, TypeError, ValueError: as for `check_parameters`.
    """
    for name, value in given.items():
        if name not in declared:
            raise KeyError(unknown(kind, name, declared))
        _check_value(name, value, declared[name])


def _declared_and_injected(cells: Sequence[str]) -> tuple[dict[str, Declared], list[str]]:
    """Parameters declared in the last cell with annotations, and names set by papermill's cell after it."""
    injected: list[str] = []
    for source in reversed(cells):
        statements = _statements(source)
        if declared := {
            ast.unparse(each.target): Declared(ast.unparse(each.annotation), ast.unparse(each.value))
            for each in statements
            if isinstance(each, ast.AnnAssign) and each.value
        }:
            return declared, injected
        if source.startswith(_INJECTED):
            injected = [ast.unparse(each.targets[0]) for each in statements if isinstance(each, ast.Assign)]
    raise LookupError("no parameters are declared: run the parameter cell first")


def _statements(source: str) -> list[ast.stmt]:
    """The statements of a cell; none if it is not Python."""
    with suppress(SyntaxError):
        return ast.parse(source).body
    return []


def _check_value(name: str, value: Any, declared: Declared) -> None:
    if declared.kind not in KINDS:
        raise KeyError(unknown(f"type of parameter {name!r}", declared.kind, KINDS))
    kind, optional = KINDS[declared.kind], declared.default == "None"
    if value is None and optional:
        return
    if not kind.fits(value):
        raise TypeError(
            f"{name} must be {kind.called}{' or None' if optional else ''}, got {value!r} ({type(value).__name__}): "
            f"write {_how_to_give(name, kind, _meant(value, kind))}"
        )
    if isinstance(value, list):
        check_list(name, value, object)


def _meant(value: Any, kind: Kind) -> Any:
    """The value that was probably meant, converted to a kind; None if unclear."""
    read = read_value(value) if isinstance(value, str) else value
    if kind.entry:
        entries = [_meant(each, kind.entry) for each in _entries(read)]
        return entries if entries and None not in entries else None
    word = _WORDS.get(str(value).lower())
    text = str(value) if type(value) in (int, float) else None
    whole = int(read) if isinstance(read, float) and read.is_integer() else None
    return next((each for each in (value, read, word, text, whole) if kind.fits(each)), None)


def _entries(read: Any) -> Sequence[Any]:
    """The entries of a list, tuple or comma-separated text; any other value is a single entry."""
    if isinstance(read, list | tuple):
        return read
    return [each.strip() for each in read.split(",")] if isinstance(read, str) else [read]


def _how_to_give(name: str, kind: Kind, value: Any) -> str:
    """The options for papermill and `lkd run` that set a parameter; with the kind's placeholder for None."""
    if value is None:
        papermill = f"-y {name}:" if kind.form[0] in "[{" else f"{'-r' if kind is _TEXT else '-p'} {name}"
        return f"`{papermill} {kind.form}` for papermill, `-p {name}={kind.form}` for lkd run"
    if isinstance(value, list | dict):
        text = json.dumps(value)
        papermill, ours = f"-y {shlex.quote(f'{name}: {text}')}", text
    else:
        papermill = f"{'-r' if isinstance(value, str) else '-p'} {name} {shlex.quote(str(value))}"
        ours = typed(value)
    return f"`{papermill}` for papermill, `-p {name}={shlex.quote(ours)}` for lkd run"
