"""Checks of what a user gives, and what to say when it is wrong."""

import difflib
import math
from collections.abc import Iterable


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """One line that says which `kind` of name is not known, which one is nearest, and which there are.

    Example:
        >>> from lkd.checks import unknown
        >>> unknown("objective", "nkdd", ["kd", "nkd"])
        "unknown objective 'nkdd': did you mean 'nkd'? There are: kd, nkd"
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f": did you mean {near[0]!r}?" if near else "."
    return f"unknown {kind} {name!r}{hint}" + (f" There are: {', '.join(names)}" if len(names) <= 30 else "")


def check_number(name: str, value: float, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """Refuse a hyper-parameter outside [low, high], or at `low` itself where it must lie `above`.

    Raises:
        TypeError: not a number.
        ValueError: outside the range.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (low < value or (low == value and not above)) or not value <= high or math.isinf(value):
        bound = f"{'above' if above else 'at least'} {low:g}" + ("" if math.isinf(high) else f" and at most {high:g}")
        raise ValueError(f"{name} must be {bound}, got {value!r}")
