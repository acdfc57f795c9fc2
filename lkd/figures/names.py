"""Names in figures: models by their family, methods in their usual spelling, and no markup."""

import re
from collections.abc import Iterable
from html import escape
from numbers import Number
from typing import Any

from lkd.paper.author_logs import FAMILIES
from lkd.runs.public_names import called, public

ALONE = "no teacher"
"""Entry of a column `teacher` for students that learn from labels alone."""

_FAMILIES = {name.lower(): name for name in (*FAMILIES, "ResNet")}
_MODEL = re.compile(r"(?:mini_)?([a-z]+)(?![a-z])[\w.-]*")
_ACRONYMS = {"kd", "nkd", "dkd", "dist", "fd"}
_SPELLED = {"label": "labels", "vanilla": "vanilla KD", ALONE: "student alone", "alone": "student alone"}


def as_written(entry: Any) -> str:
    """The usual spelling of an objective's name; any other entry unchanged.

    Example:
        >>> from lkd.figures import as_written
        >>> as_written("nkd"), as_written("kd+fd"), as_written("vanilla"), as_written("mini_slak")
        ('NKD', 'KD + FD', 'vanilla KD', 'mini_slak')
    """
    parts = str(entry).split("+")
    return " + ".join(map(str.upper, parts)) if {*parts} <= _ACRONYMS else _SPELLED.get(str(entry), str(entry))


def family(model: Any) -> str | None:
    """The family of a model, as figures show it; None for an unknown one.

    Example:
        >>> from lkd.figures import family
        >>> family("mini_slak"), family("swin_tiny_patch4_window7_224"), family("resnet50"), family("my_net")
        ('SLaK', 'Swin', 'ResNet', None)
    """
    if str(model) in _FAMILIES.values():
        return str(model)
    found = _MODEL.fullmatch(str(model))
    return _FAMILIES.get(found[1]) if found else None


def short_names(entries: Iterable[Any]) -> dict[Any, str]:
    """The names that a figure shows, by entry: families of models, unless two entries would have the same name.

    Args:
        entries: models, methods or other entries of a column; duplicates count once.

    Example:
        >>> from lkd.figures import short_names
        >>> short_names(["mini_slak", "by mini_vit", "nkd", "resnet18", "resnet50"])
        {'mini_slak': 'SLaK', 'by mini_vit': 'by ViT', 'nkd': 'NKD', 'resnet18': 'resnet18', 'resnet50': 'resnet50'}
    """
    whole = called(dict.fromkeys(map(str, entries)))
    short = {
        entry: as_written(" ".join(family(word) or word for word in name.split(" "))) for entry, name in whole.items()
    }
    once = [*short.values()]
    return {
        entry: short[str(entry)] if once.count(short[str(entry)]) == 1 else whole[str(entry)]
        for entry in dict.fromkeys(entries)
    }


def capital(text: str) -> str:
    """A text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def no_markup(entry: Any) -> str:
    """A public name, escaped so that Plotly reads neither HTML nor TeX in it."""
    return escape(public(str(entry)), quote=False).replace("$", "&#36;")


def told(column: str, entry: Any, short: str) -> str:
    """A name for the text at a point: the name that is drawn and, if it differs, the one in the code."""
    plain, own = no_markup(short), no_markup(entry)
    return f"{column}: {plain}" + ("" if own in (plain, ALONE) or as_written(entry) == short else f" ({own})")


def titles(column: str, entries: Iterable[Any]) -> dict[Any, str]:
    """The titles of panels by the entries of a column: "student ResNet", "500 training images", "KD"."""
    return {entry: _title(column, entry, no_markup(short)) for entry, short in short_names(entries).items()}


def _title(column: str, entry: Any, short: str) -> str:
    if isinstance(entry, Number):
        return f"{entry:,} {column}"
    return f"{column} {short}" if column in ("student", "teacher") else short
