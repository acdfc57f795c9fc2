"""Panels by the entries of two columns of a table, each with its name above it.

The pages of the book stack the panels of a figure in a narrow window: `layout.meta.panels` tells how.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lkd.figures.labels import capital, titles
from lkd.figures.style import MARGIN

GAP = 54
"""Pixels between panels above each other: tick labels, and the name of the lower one."""
_LINE = 20
"""Pixels of a line of text."""


class Panel(NamedTuple):
    """A panel: its cells, its place, from 1, and its name."""

    cells: pd.DataFrame
    row: int
    column: int
    name: str


def panels(
    cells: pd.DataFrame,
    rows: str,
    columns: str,
    everywhere: str | None = None,
    *,
    height: int,
    spacing: float,
    **shared: Any,
) -> tuple[go.Figure, list[Panel]]:
    """A figure with empty panels by the entries of two columns, and these panels.

    Args:
        cells: what is drawn.
        rows, columns: columns with the rows and columns of panels.
        everywhere: entry of `columns` that is drawn in every panel instead of its own.
        height: of a panel, in pixels.
        spacing: between panels beside each other, as a share of the width.
        shared: `shared_xaxes` and `shared_yaxes` of `make_subplots`.
    """
    found = list(_each(cells, rows, columns, everywhere))
    tall, wide = found[-1].row, found[-1].column
    second_line = _LINE if wide > 2 else 0
    figure = grid(tall, wide, height=height, spacing=spacing, gap=GAP + second_line, **shared)
    figure.update_layout(height=figure.layout.height + second_line, margin_t=MARGIN["t"] + second_line)
    for number, panel in enumerate(found, 1):
        figure.add_annotation(name_of(number, panel.name))
    return figure, found


def grid(
    tall: int, wide: int, *, height: int, spacing: float, narrow: int = 1, gap: int = GAP, **shared: Any
) -> go.Figure:
    """A figure with empty panels, of which pages put `narrow` side by side in a narrow window."""
    inner = tall * height + (tall - 1) * gap
    apart = {"vertical_spacing": gap / inner if tall > 1 else 0, "horizontal_spacing": spacing if wide > 1 else 0}
    figure = make_subplots(tall, wide, **apart, **shared)
    meta = {"panels": {"columns": wide, "narrow": min(narrow, wide), "gap": gap}}
    return figure.update_layout(height=inner + MARGIN["t"] + MARGIN["b"], margin=MARGIN, meta=meta)


def name_of(number: int, text: str) -> dict[str, Any]:
    """The annotation with the name of a panel, above its left end."""
    axis = number if number > 1 else ""
    place = {"xref": f"x{axis} domain", "yref": f"y{axis} domain", "x": 0, "y": 1}
    return {
        "text": text,
        **place,
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 4,
        "align": "left",
        "showarrow": False,
    }


def _each(cells: pd.DataFrame, rows: str, columns: str, everywhere: str | None) -> Iterator[Panel]:
    down, across = titles(rows, cells[rows].unique()), titles(columns, cells[columns].unique())
    across.pop(everywhere, None)
    for row, (entry, name) in enumerate(down.items(), 1):
        for column, (other, name_beside) in enumerate(across.items(), 1):
            here = (cells[rows] == entry) & cells[columns].isin([other, everywhere])
            yield Panel(
                cells[here], row, column, f"<b>{capital(name)}</b>{', ' if len(across) < 3 else '<br>'}{name_beside}"
            )
