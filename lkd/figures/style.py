"""Colours, markers, names and texts that all figures share."""

from collections.abc import Mapping
from html import escape
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from lkd.objectives import OBJECTIVES
from lkd.runs.public_names import public

ALONE = "no teacher"
GREY = "#808080"
_STYLE = {
    "mini_slak": ("#D55E00", "circle", "solid"),
    "mini_convnext": ("#0072B2", "square", "dash"),
    "mini_cswin": ("#009E73", "diamond", "dot"),
    "mini_swin": ("#CC79A7", "triangle-up", "dashdot"),
    "mini_vit": ("#B8860B", "star", "longdash"),
    ALONE: (GREY, "x", "longdashdot"),
}
_SPARE = [("#56789A", symbol, "solid") for symbol in ("hexagon", "cross", "triangle-down", "pentagon", "bowtie")]
SPREAD = {"low": "95 % low", "high": "95 % high", "n": "runs"}


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


def as_written(entry: Any) -> str:
    """The usual spelling of an objective's name; any other entry unchanged.

    Example:
        >>> from lkd.figures import as_written
        >>> as_written("nkd"), as_written("mini_slak")
        ('NKD', 'mini_slak')
    """
    return entry.upper() if entry in OBJECTIVES else str(entry)


def styles(entries: pd.Series) -> dict[Any, tuple[str, str, str]]:
    """Colour, marker and dash of each entry: fixed for the book's teachers, in order for others.

    Args:
        entries: teachers or other entries; duplicates count once.

    Example:
        >>> import pandas as pd
        >>> from lkd.figures import styles
        >>> styles(pd.Series(["mini_slak", "my_net"]))["mini_slak"]
        ('#D55E00', 'circle', 'solid')
    """
    others = [entry for entry in entries.unique() if entry not in _STYLE]
    mixed = len(others) < entries.nunique()
    palette = _SPARE if mixed else [*_STYLE.values(), *_SPARE]
    return _STYLE | {entry: palette[place % len(palette)] for place, entry in enumerate(others)}


def named(cells: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Cells with escaped names."""
    return cells.assign(**cells[columns].select_dtypes(exclude="number").map(no_markup))


def no_markup(entry: Any) -> str:
    """A public name, escaped so that Plotly reads neither HTML nor TeX in it."""
    return escape(public(str(entry)), quote=False).replace("$", "&#36;")


def drawn_cells(cells: pd.DataFrame, table: pd.DataFrame, cell: list[str]) -> pd.DataFrame:
    """Cells to draw, with escaped names, and the text below the mean in a column `hover`."""
    if "run_id" in table:
        cells = cells.merge(table.groupby(cell, sort=False).run_id.first().reset_index())
    hover = [_hover_text(row) for row in cells.to_dict("records")]
    return named(cells, cell).assign(hover=hover)


def _hover_text(cell: Mapping[str, Any]) -> str:
    """The interval and its number of runs, or the id of a single run."""
    if cell["n"] > 1:
        return f"95 % interval {cell['low']:.2f} to {cell['high']:.2f}<br>runs: {cell['n']:.0f}"
    return f"one run, no interval<br>run {cell['run_id']}" if "run_id" in cell else "one run, no interval"


def finished(figure: go.Figure, *, height: int, alt: str, caption: str, data: pd.DataFrame) -> go.Figure:
    """The figure with its height, margins, texts and numbers."""
    table = {"columns": list(data.columns), "rows": public(data.round(3).astype(object).to_numpy().tolist())}
    return figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h", "y": -0.12, "yanchor": "top"},
        meta={"alt": alt, "caption": caption, "table": table, "maker": "lkd.figures"},
    )
