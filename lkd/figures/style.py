"""The look of all figures: colours, markers, type, and the texts and numbers that each figure carries."""

from collections.abc import Mapping
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lkd.figures.labels import ALONE, as_written, family
from lkd.runs.public_names import public

Look = tuple[str, str, str]
"""Colour, marker and dash."""

GREY = "#808080"
SPREAD = {"low": "95 % low", "high": "95 % high", "n": "runs"}
"""Headings in the tables of figures, by column of `lkd.study.by_cell`."""

_TEACHERS = {
    "SLaK": ("#D55E00", "circle", "solid"),
    "ConvNeXt": ("#0072B2", "square", "dash"),
    "CSWin": ("#009E73", "diamond", "dot"),
    "Swin": ("#CC79A7", "triangle-up", "dashdot"),
    "ViT": ("#B8860B", "star", "longdash"),
}
_METHODS = {
    "labels": (GREY, "x", "longdashdot"),
    "KD": ("#6A63D9", "circle", "solid"),
    "NKD": ("#D6336C", "square", "dash"),
    "DKD": ("#0B8A9C", "diamond", "dot"),
    "DIST": ("#8A6A4F", "triangle-up", "dashdot"),
    "vanilla KD": ("#6B8E00", "star", "longdash"),
    "FD": ("#5F7F96", "hexagon", "solid"),
    "KD + FD": ("#6A63D9", "cross", "dash"),
    "NKD + FD": ("#D6336C", "pentagon", "dot"),
}
_KNOWN = {ALONE: (GREY, "x", "longdashdot"), **_TEACHERS, **_METHODS}
_USUAL = ("vanilla KD, BCE",)
"""Variants that have the look of their method itself."""

_RAMP = np.array([[0xB8, 0x78, 0xCA], [0x96, 0x45, 0xB0]])
"""The ends of the colours for sizes and other entries, from the first to the last."""
_SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "star", "hexagon", "cross", "triangle-down", "pentagon", "bowtie", "x"
)  # fmt: skip
_OPEN = ("", "-open", "-dot", "-open-dot")
"""Endings of the markers of a method's variants."""
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

_AXIS = {
    "gridcolor": "#e3e3e3",
    "linecolor": "#8a8a8a",
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 14}},
    "tickfont": {"size": 13},
    "ticklabelstandoff": 5,
}
LOOK = go.layout.Template(
    layout={
        "font": {"size": 14, "color": "#222222"},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {"align": "left"},
        "annotationdefaults": {"font": {"size": 14}, "showarrow": False},
        "colorway": [color for color, *_ in _TEACHERS.values()],
    }
)
MARGIN = {"l": 10, "r": 10, "t": 30, "b": 52}


class Axis(NamedTuple):
    """An axis of a figure: its column, title and unit."""

    column: str
    title: str
    unit: str

    @property
    def label(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


GAIN = Axis("direct_gain", "direct gain", "points")


def styles(entries: pd.Series) -> dict[Any, Look]:
    """Colour, marker and dash of each entry: fixed for teachers and methods by name, a sequence for others.

    Models of one family have its look, unless several are shown together; variants of a method, as "FD, three maps",
    have its colour.

    Args:
        entries: teachers, methods or other entries; duplicates count once.

    Example:
        >>> import pandas as pd
        >>> from lkd.figures import styles
        >>> looks = styles(pd.Series(["mini_slak", "my_net"]))
        >>> looks["mini_slak"], looks["my_net"]
        (('#D55E00', 'circle', 'solid'), ('#B878CA', 'hexagon', 'solid'))
    """
    found: dict[Any, Look] = {}
    names = {entry: _known_name(entry) for entry in entries.unique()}
    for entry, name in names.items():
        if name is not None and _KNOWN[name] not in found.values():
            found[entry] = _KNOWN[name]
    variants: dict[str, int] = {}
    for entry in names:
        method = as_written(str(entry).partition(",")[0])
        if entry not in found and method in _METHODS:
            variants[method] = variants.get(method, 0) + 1
            found[entry] = _variant(_METHODS[method], variants[method])
    others = [entry for entry in names if entry not in found]
    found |= dict(zip(others, _sequence(len(others)), strict=True))
    return {entry: found[entry] for entry in names}


def is_known(entry: Any) -> bool:
    """Whether an entry is a teacher or a method, which needs no heading."""
    return _known_name(entry) is not None or as_written(str(entry).partition(",")[0]) in _METHODS


def _known_name(entry: Any) -> str | None:
    """The name in `_KNOWN` with the look of an entry."""
    name = str(entry).partition(",")[0] if entry in _USUAL else str(entry)
    return next((each for each in (name, family(name), as_written(name)) if each in _KNOWN), None)


def _variant(style: Look, number: int) -> Look:
    color, symbol, dash = style
    further = _SYMBOLS[(_SYMBOLS.index(symbol) + number // len(_OPEN)) % len(_SYMBOLS)]
    return color, further + _OPEN[number % len(_OPEN)], _DASHES[(_DASHES.index(dash) + number) % len(_DASHES)]


def _sequence(count: int) -> list[Look]:
    """Looks of entries in order, with other markers than the teachers' as long as there are some."""
    colors = [np.round(_RAMP[0] + share * (_RAMP[1] - _RAMP[0])).astype(int) for share in np.linspace(0, 1, count)]
    symbols, dashes = islice(cycle(_SYMBOLS), len(_TEACHERS), None), cycle(_DASHES)
    marks = zip(symbols, dashes, strict=False)
    return [("#{:02X}{:02X}{:02X}".format(*color), *next(marks)) for color in colors]


def faded(color: str, opacity: float) -> str:
    """A colour #rrggbb with an opacity, for areas."""
    channels = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({', '.join(map(str, channels))}, {opacity})"


def interval_text(cell: Mapping[str, Any]) -> str:
    """The interval of a mean and its number of runs, or the id of a single run."""
    if cell["n"] > 1:
        return f"95 % interval {cell['low']:.2f} to {cell['high']:.2f}<br>runs: {cell['n']:.0f}"
    return f"one run, no interval<br>run {cell['run_id']}" if "run_id" in cell else "one run, no interval"


def with_texts(cells: pd.DataFrame, table: pd.DataFrame, cell: list[str]) -> pd.DataFrame:
    """Means by cell of a table, with the text of each interval in a column `hover`."""
    if "run_id" in table:
        cells = cells.merge(table.groupby(cell, sort=False).run_id.first().reset_index())
    return cells.assign(hover=[interval_text(row) for row in cells.to_dict("records")])


def finished(figure: go.Figure, *, alt: str, caption: str, data: pd.DataFrame, **layout: Any) -> go.Figure:
    """The figure in the look of the book, with its texts and numbers."""
    table = {"columns": list(data.columns), "rows": public(data.round(3).astype(object).to_numpy().tolist())}
    meta = {**(figure.layout.meta or {}), "alt": alt, "caption": caption, "table": table}
    return figure.update_layout(template=LOOK, showlegend=False, meta=meta, **layout)
