"""Panels by the entries of two columns of a table."""

from collections.abc import Iterator

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lkd.figures.style import as_written


def panels(
    cells: pd.DataFrame, rows: str, columns: str, everywhere: str | None = None, *, shared_xaxes: bool | str
) -> go.Figure:
    """A figure with empty panels by the entries of two columns."""
    across = [entry for entry in cells[columns].unique() if entry != everywhere]
    figure = make_subplots(
        cells[rows].nunique(),
        len(across),
        column_titles=[as_written(entry) for entry in across],
        shared_xaxes=shared_xaxes,
        shared_yaxes=True,
        horizontal_spacing=0.05,
        vertical_spacing=0.1,
    )
    for row, entry in enumerate(cells[rows].unique(), 1):
        figure.update_yaxes(title_text=str(entry), row=row, col=1)
    return figure


def each_panel(
    cells: pd.DataFrame, rows: str, columns: str, everywhere: str | None = None
) -> Iterator[tuple[pd.DataFrame, tuple[int, int]]]:
    """Yield the cells of each panel, including those of `everywhere`, and its place."""
    across = [entry for entry in cells[columns].unique() if entry != everywhere]
    for row, down in enumerate(cells[rows].unique(), 1):
        for column, entry in enumerate(across, 1):
            here = (cells[rows] == down) & cells[columns].isin([entry, everywhere])
            yield cells[here], (row, column)
