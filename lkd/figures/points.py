"""Points with their intervals."""

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lkd.figures.labels import as_written, capital, no_markup, short_names, told
from lkd.figures.panels import panels
from lkd.figures.style import GAIN, GREY, SPREAD, Axis, Look, finished, is_known, styles, with_texts
from lkd.runs.public_names import public
from lkd.study import by_cell

_EACH = 34
"""Pixels from point to point."""
_LETTERS = 20
"""Letters of a name above which it is wrapped."""


def gains(table: pd.DataFrame) -> go.Figure:
    """Plot the direct gain by student (rows), method (columns) and teacher: means over runs with 95 % intervals.

    Args:
        table: `Results.gains` of a study.

    Example:
        >>> import pandas as pd
        >>> from lkd import figures
        >>> table = pd.DataFrame({"student": "mini_resnet", "teacher": ["mini_slak", "mini_vit"], "objective": "kd"})
        >>> figure = figures.gains(table.assign(direct_gain=[2.5, 1.0]))
        >>> figure.layout.meta["alt"].partition("Largest: ")[2]
        '+2.50 points, ResNet distilled from SLaK with KD.'
    """
    return intervals(table, GAIN, of="teacher", rows="student", columns="objective")


def intervals(table: pd.DataFrame, axis: Axis, *, of: str, rows: str, columns: str) -> go.Figure:
    """Plot means with 95 % t intervals for the entries of one column, in panels by two others.

    The axis of a difference, in points, contains 0.

    Args:
        table: tidy table with one row per run.
        axis: the quantity to average.
        of: column with the entries of a panel, from top to bottom.
        rows, columns: columns with the rows and columns of panels.

    Example:
        >>> import pandas as pd
        >>> from lkd import figures
        >>> table = pd.DataFrame({"student": "mini_resnet", "kernel": ["3", "3", "7", "7"], "objective": "kd"})
        >>> table = table.assign(direct_gain=[1.0, 1.5, 2.0, 3.0])
        >>> figure = figures.intervals(table, figures.GAIN, of="kernel", rows="student", columns="objective")
        >>> [point.x[0] for point in figure.data]
        [1.25, 2.5]
    """
    cells = by_cell(table, axis.column, [rows, of, columns])
    figure = _points(with_texts(cells, table, [rows, of, columns]), axis, of, rows, columns, shared_xaxes="all")
    if "points" in axis.unit:
        figure.update_xaxes(range=_range(cells))
        figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"}, row="all", col="all")
    best = cells.loc[cells["mean"].idxmax()]
    spread = "with 95 % t intervals" if (cells.n > 1).any() else "one run each, without intervals"
    name = {column: public(short_names(cells[column].unique())[best[column]]) for column in (rows, of, columns)}
    learns = f"{name[rows]} distilled from {name[of]} with {name[columns]}"
    where = learns if of == "teacher" else f"{name[rows]}, {of} {name[of]}, {name[columns]}"
    return finished(
        figure,
        alt=(
            f"{capital(axis.title)} in {axis.unit or 'shares'} by {rows}, {of} and {columns}, {spread}. "
            f"Largest: {best['mean']:{'+' if axis == GAIN else ''}.2f} {axis.unit}, {where}."
        ),
        caption=f"{capital(axis.title)}: means over runs, {spread}.",
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

    Example:
        >>> from lkd import figures
        >>> from lkd.paper.author_logs import scores
        >>> top1 = figures.Axis("top1", "top-1", "%")
        >>> figure = figures.proportions(scores(), top1, of="teacher", rows="student", columns="set")
        >>> figure.layout.meta["alt"].partition("Highest ")[2]
        'in 6 of 6 panels: SLaK.'
    """
    cells = table.rename(columns={axis.column: "mean"})
    hover = [f"95 % interval {c.low:.2f} to {c.high:.2f}<br>images: {c.images:,}" for c in cells.itertuples()]
    figure = _points(cells.assign(hover=hover), axis, of, rows, columns, shared_xaxes=False)
    highest = cells.loc[cells.groupby([rows, columns], sort=False)["mean"].idxmax(), of]
    first = highest.mode()[0]
    return finished(
        figure,
        alt=(
            f"{capital(axis.title)} in {axis.unit} by {rows}, {of} and {columns}, with 95 % intervals. "
            f"Highest in {(highest == first).sum()} of {len(highest)} panels: {public(as_written(first))}."
        ),
        caption=f"{capital(axis.title)}, with 95 % binomial intervals over images; scales differ between panels.",
        data=table[[rows, of, columns, axis.column, "low", "high", "images"]].rename(
            columns={axis.column: axis.label, "low": "95 % low", "high": "95 % high"}
        ),
    )


def _points(
    cells: pd.DataFrame, axis: Axis, of: str, rows: str, columns: str, *, shared_xaxes: bool | str
) -> go.Figure:
    """A figure with a point and its interval per cell, in panels by the entries of two columns."""
    height = 14 + _EACH * cells[of].nunique()
    figure, found = panels(
        cells, rows, columns, height=height, spacing=0.05, shared_xaxes=shared_xaxes, shared_yaxes=True
    )
    looks, names = styles(cells[of]), short_names(cells[of].unique())
    for panel in found:
        for cell in panel.cells.to_dict("records"):
            entry = cell[of]
            text = f"{panel.name}<br>{told(of, entry, names[entry])}"
            figure.add_trace(_point(cell, axis, _in_lines(names[entry]), text, looks[entry]), panel.row, panel.column)
    wide = found[-1].column
    figure.update_xaxes(title_text=axis.label, row=found[-1].row, col=None if wide < 3 else 1 + wide // 2)
    if not any(map(is_known, names)):
        figure.update_yaxes(title_text=no_markup(of), col=1)
    return figure.update_yaxes(autorange="reversed", type="category", showgrid=False)


def _in_lines(name: str) -> str:
    """A name in lines that leave room for the panel on a phone."""
    return "<br>".join(map(no_markup, wrap(name, _LETTERS, break_long_words=False)))


def _range(cells: pd.DataFrame) -> list[float]:
    """The ends of an axis that shows all intervals, and 0."""
    ends = [0, *cells["mean"], *cells.low.dropna(), *cells.high.dropna()]
    room = 0.05 * (max(ends) - min(ends) or 1)
    return [min(ends) - room, max(ends) + room]


def _point(cell: Mapping[str, Any], axis: Axis, name: str, text: str, style: Look) -> go.Scatter:
    color, symbol, _ = style
    return go.Scatter(
        x=[cell["mean"]],
        y=[name],
        error_x={
            "type": "data",
            "array": [cell["high"] - cell["mean"]],
            "arrayminus": [cell["mean"] - cell["low"]],
            "color": color,
            "thickness": 2,
            "width": 0,
        },
        mode="markers",
        marker={"color": color, "symbol": symbol, "size": 11},
        hovertemplate=f"{text}<br>{axis.title} %{{x:.2f}} {axis.unit}<br>{cell['hover']}<extra></extra>",
    )
