"""Points with their intervals."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lkd.figures.panels import each_panel, panels
from lkd.figures.style import GAIN, GREY, SPREAD, Axis, as_written, drawn_cells, finished, named, styles
from lkd.runs.public_names import public
from lkd.study import by_cell


def gains(table: pd.DataFrame) -> go.Figure:
    """Plot the direct gain by student (rows), method (columns) and teacher: means over runs with 95 % intervals.

    Args:
        table: `Results.gains` of a study.
    """
    return intervals(table, GAIN, of="teacher", rows="student", columns="objective")


def intervals(table: pd.DataFrame, axis: Axis, *, of: str, rows: str, columns: str) -> go.Figure:
    """Plot means with 95 % t intervals for the entries of one column, in panels by two others.

    Args:
        table: tidy table with one row per run.
        axis: the quantity to average.
        of: column with the entries of a panel, from top to bottom.
        rows, columns: columns with the rows and columns of panels.
    """
    cells = by_cell(table, axis.column, [rows, of, columns])
    drawn = drawn_cells(cells, table, [rows, of, columns])
    figure = _points(drawn, axis, of, rows, columns, shared_xaxes="all")
    figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"}, row="all", col="all")
    best = cells.loc[cells["mean"].idxmax()].map(public)
    spread = "with 95 % t intervals" if (cells.n > 1).any() else "one run each, without intervals"
    learns = f"{best[rows]} distilled from {best[of]} with {as_written(best[columns])}"
    where = learns if of == "teacher" else f"{best[rows]}, {of} {best[of]}, {as_written(best[columns])}"
    return finished(
        figure,
        height=_height_of_points(cells, of, rows),
        alt=(
            f"{axis.title.capitalize()} in {axis.unit or 'shares'} by {rows}, {of} and {columns}, {spread}. "
            f"Largest: {best['mean']:{'+' if axis == GAIN else ''}.2f} {axis.unit}, {where}."
        ),
        caption=f"{axis.title.capitalize()}: means over runs, {spread}.",
        data=cells.rename(columns=SPREAD),
    )


def proportions(table: pd.DataFrame, axis: Axis, *, of: str, rows: str, columns: str) -> go.Figure:
    """Plot shares of images with given intervals for the entries of one column, in panels by two others.

    Each panel has its own scale.

    Args:
        table: tidy table with one row per point, with ends `low` and `high` of a 95 % interval, and number of `images`.
        axis: the share.
        of: column with the entries of a panel, from top to bottom.
        rows, columns: columns with the rows and columns of panels.
    """
    cells = table.rename(columns={axis.column: "mean"})
    hover = [f"95 % interval {c.low:.2f} to {c.high:.2f}<br>images: {c.images:,}" for c in cells.itertuples()]
    drawn = named(cells, [rows, of, columns]).assign(hover=hover)
    figure = _points(drawn, axis, of, rows, columns, shared_xaxes=False)
    highest = cells.loc[cells.groupby([rows, columns], sort=False)["mean"].idxmax(), of]
    first = highest.mode()[0]
    return finished(
        figure,
        height=_height_of_points(cells, of, rows),
        alt=(
            f"{axis.title.capitalize()} in {axis.unit} by {rows}, {of} and {columns}, with 95 % intervals. "
            f"Highest in {(highest == first).sum()} of {len(highest)} panels: {public(first)}."
        ),
        caption=f"{axis.title.capitalize()}, with 95 % binomial intervals over images; scales differ between panels.",
        data=table[[rows, of, columns, axis.column, "low", "high", "images"]].rename(
            columns={axis.column: axis.label, "low": "95 % low", "high": "95 % high"}
        ),
    )


def _points(
    drawn: pd.DataFrame, axis: Axis, of: str, rows: str, columns: str, *, shared_xaxes: bool | str
) -> go.Figure:
    """A figure with a point and its interval per cell, in panels by the entries of two columns."""
    figure = panels(drawn, rows, columns, shared_xaxes=shared_xaxes)
    looks = styles(drawn[of])
    for panel, place in each_panel(drawn, rows, columns):
        for cell in panel.to_dict("records"):
            where = f"{cell[rows]}, {as_written(cell[columns])}"
            figure.add_trace(_interval(cell, axis, of, where, looks[cell[of]]), *place)
    figure.update_xaxes(title_text=axis.label, row=drawn[rows].nunique())
    return figure.update_yaxes(autorange="reversed", type="category")


def _height_of_points(cells: pd.DataFrame, of: str, rows: str) -> int:
    """Height in pixels of a figure by `_points`."""
    tall: int = cells[rows].nunique()
    return 110 + tall * (60 + 36 * cells[of].nunique())


def _interval(cell: Mapping[str, Any], axis: Axis, of: str, where: str, style: tuple[str, str, str]) -> go.Scatter:
    color, symbol, _ = style
    return go.Scatter(
        x=[cell["mean"]],
        y=[cell[of]],
        error_x={
            "type": "data",
            "array": [cell["high"] - cell["mean"]],
            "arrayminus": [cell["mean"] - cell["low"]],
            "color": color,
            "thickness": 2,
        },
        mode="markers",
        marker={"color": color, "symbol": symbol, "size": 10},
        showlegend=False,
        hovertemplate=(
            f"{where}<br>{of}: {cell[of]}<br>{axis.title} %{{x:.2f}} {axis.unit}<br>{cell['hover']}<extra></extra>"
        ),
    )
