"""Names in figures: models by their family, methods in their usual spelling, and no markup."""

import re
from collections import Counter
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
_SPELLED = {"label": "labels", "vanilla": "vanilla KD"}
_ALONE = {ALONE: "student alone", "alone": "student alone"}


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
        >>> short_names(["mini_slak", "mini_convnext_nano", "by mini_vit", "nkd"])
        {'mini_slak': 'SLaK', 'mini_convnext_nano': 'ConvNeXt nano', 'by mini_vit': 'by ViT', 'nkd': 'NKD'}
        >>> short_names(["resnet18", "resnet50"])
        {'resnet18': 'resnet18', 'resnet50': 'resnet50'}
    """
    wanted = list(dict.fromkeys(entries))
    whole = called(map(str, wanted))
    short = {
        entry: _ALONE.get(name) or as_written(" ".join(map(_short, name.split(" ")))) for entry, name in whole.items()
    }
    times = Counter(short.values())
    return {entry: whole[str(entry)] if times[short[str(entry)]] > 1 else short[str(entry)] for entry in wanted}


def _short(word: str) -> str:
    """A model by its family, with "nano", which has a larger model beside it; any other word unchanged."""
    name = family(word)
    return word if name is None else f"{name} nano" if word.endswith("_nano") else name


def capital(text: str) -> str:
    """A text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def no_markup(entry: Any) -> str:
    """A public name, escaped so that Plotly reads neither HTML nor TeX in it."""
    return escape(public(str(entry)), quote=False).replace("$", "&#36;")


def told(column: str, entry: Any, short: str) -> str:
    """A name for the text at a point: the name that is drawn and, if it differs, the one in the code."""
    plain, own = no_markup(short), no_markup(entry)
    return f"{column}: {plain}" + ("" if own in (plain, *_ALONE) or as_written(entry) == short else f" ({own})")


def titles(column: str, entries: Iterable[Any]) -> dict[Any, str]:
    """The titles of panels by the entries of a column: "student ResNet", "500 training images", "KD"."""
    return {entry: _title(column, entry, no_markup(short)) for entry, short in short_names(entries).items()}


def _title(column: str, entry: Any, short: str) -> str:
    if isinstance(entry, Number):
        return f"{entry:,} {column}"
    return f"{column} {short}" if column in ("student", "teacher") else short
