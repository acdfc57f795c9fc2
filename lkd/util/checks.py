"""Checks of user input, with error messages."""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_BOOLEAN_WORDS = ("true", "false", "yes", "no", "on", "off")


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The error message for an unknown name, with the nearest known name and up to 30 known names.

    Example:
        >>> from lkd.util.checks import unknown
        >>> unknown("objective", "nkdd", ["kd", "nkd"])
        "unknown objective 'nkdd': did you mean 'nkd'? There are: kd, nkd"
        >>> unknown("class", "fox", ["cat, tabby", "dog"])
        "unknown class 'fox'. There are: 'cat, tabby', dog"
    """
    names = sorted(known)
    folded = {each.casefold(): each for each in names}
    near = difflib.get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.5)
    hint = f": did you mean {folded[near[0]]!r}?" if near else "."
    listed = ", ".join(repr(each) if "," in each else each for each in names)
    return f"unknown {kind} {name!r}{hint}" + (f" There are: {listed}" if len(names) <= 30 else "")


def some(names: Iterable[str]) -> str:
    """The first five names in sorted order, and the number of others.

    Example:
        >>> from lkd.util.checks import some
        >>> some(["c", "a", "b", "f", "e", "d", "g"])
        "'a', 'b', 'c', 'd', 'e' and 2 more"
    """
    ordered = sorted(names)
    shown = ", ".join(repr(name) for name in ordered[:5])
    return shown + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")


def check_number(
    name: str, value: float, low: float, high: float = math.inf, *, above: bool = False, below: bool = False
) -> None:
    """Raise an error unless a value is a number in [low, high]; `above` excludes `low`, and `below` excludes `high`.

    Example:
        >>> from lkd.util.checks import check_number
        >>> check_number("smoothing", 0.1, 0, 1)
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    high_enough = low < value or (low == value and not above)
    low_enough = value < high or (value == high and not below)
    if not (high_enough and low_enough) or abs(value) == math.inf:
        bound = f"{'above' if above else 'at least'} {low:g}"
        bound += "" if math.isinf(high) else f" and {'below' if below else 'at most'} {high:g}"
        raise ValueError(f"{name} must be {bound}, got {value!r}")


def check_whole(name: str, value: int, low: int, high: float = math.inf) -> None:
    """Raise an error unless a value is an integer in [low, high].

    Example:
        >>> from lkd.util.checks import check_whole
        >>> check_whole("epochs", 3, 1)
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    check_number(name, value, low, high)


def check_flag(name: str, value: bool) -> None:
    """Raise a TypeError unless a value is True or False: a string such as "false" would count as True.

    Example:
        >>> from lkd.util.checks import check_flag
        >>> check_flag("resume", True)
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_words(name: str, values: Mapping[str, Any]) -> None:
    """Raise a TypeError for strings such as "yes" or "false" among values of any type.

    Example:
        >>> from lkd.util.checks import check_words
        >>> check_words("optimizer_args", {"nesterov": False})
    """
    for key, value in values.items():
        if isinstance(value, str) and value.lower() in _BOOLEAN_WORDS:
            raise TypeError(f"{name} has the string {value!r} for {key!r}, which counts as true: use True or False")


def check_list(name: str, given: Sequence[Any], kind: type | tuple[type, ...]) -> None:
    """Raise an error unless a value is a non-empty list of distinct entries of a type.

    Example:
        >>> from lkd.util.checks import check_list
        >>> check_list("seeds", [0, 1], int)
    """
    fits = isinstance(given, Sequence) and not isinstance(given, str)
    if not fits or not all(isinstance(entry, kind) and not isinstance(entry, bool) for entry in given):
        kinds = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise TypeError(f"{name} must be a list of {kinds}, got {given!r}")
    if not given:
        raise ValueError(f"{name} is empty: give at least one")
    if len(set(given)) < len(given):
        raise ValueError(f"{name} names something twice: {given!r}")


def check_unset(settings: Any, names: Iterable[str], kind: str) -> None:
    """Raise a ValueError for non-default values of dataclass fields that have no effect.

    Args:
        settings: an instance of the dataclass.
        names: fields that must have their default.
        kind: the data or object on which they have no effect, for the message.

    Example:
        >>> from lkd.util.checks import check_unset
        >>> from lkd.data import Augmentation
        >>> check_unset(Augmentation(flip=True), ["crop"], "images in files")
    """
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name in names:
        if (value := getattr(settings, name)) != defaults[name]:
            raise ValueError(f"{name} is {value!r}, but has no effect on {kind}: set it to {defaults[name]!r}")
