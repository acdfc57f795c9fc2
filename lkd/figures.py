"""Plotly figures from tidy tables, in one style for the whole book.

The `layout.meta` of each figure has an `alt` text, a `caption`, and its data (`table`). Colours have a contrast of 3 to
1 on white and on black, and each teacher of the book also has its own marker.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lkd.erf import area_ratios
from lkd.erf.analysis import THRESHOLDS
from lkd.objectives import OBJECTIVES
from lkd.runs.public_names import public
from lkd.study import by_cell

ALONE = "no teacher"
_GREY = "#808080"
_STYLE = {
    "mini_slak": ("#D55E00", "circle", "solid"),
    "mini_convnext": ("#0072B2", "square", "dash"),
    "mini_cswin": ("#009E73", "diamond", "dot"),
    "mini_swin": ("#CC79A7", "triangle-up", "dashdot"),
    "mini_vit": ("#B8860B", "star", "longdash"),
    ALONE: (_GREY, "x", "longdashdot"),
}
_SPARE = [("#56789A", symbol, "solid") for symbol in ("hexagon", "cross", "triangle-down", "pentagon", "bowtie")]
_RADII = (4, 8, 16, 32)
_ACTIVE = THRESHOLDS.index(0.5)
_SQUARE = "The square has more than this share: "
_COLORBAR = {
    "title": {"text": "log10(x + 1), in % of the largest", "side": "top", "font": {"size": 12}},
    "orientation": "h",
    "y": 0,
    "yanchor": "top",
    "thickness": 12,
}
_SPREAD = {"low": "95 % low", "high": "95 % high", "n": "runs"}


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
    drawn = _drawn(cells, table, [rows, of, columns])
    figure = _points(drawn, axis, of, rows, columns, shared_xaxes="all")
    figure.add_vline(x=0, line={"color": _GREY, "width": 1, "dash": "dot"}, row="all", col="all")
    best = cells.loc[cells["mean"].idxmax()].map(public)
    spread = "with 95 % t intervals" if (cells.n > 1).any() else "one run each, without intervals"
    learns = f"{best[rows]} distilled from {best[of]} with {as_written(best[columns])}"
    where = learns if of == "teacher" else f"{best[rows]}, {of} {best[of]}, {as_written(best[columns])}"
    return _finish(
        figure,
        height=_height_of_points(cells, of, rows),
        alt=(
            f"{axis.title.capitalize()} in {axis.unit or 'shares'} by {rows}, {of} and {columns}, {spread}. "
            f"Largest: {best['mean']:{'+' if axis == GAIN else ''}.2f} {axis.unit}, {where}."
        ),
        caption=f"{axis.title.capitalize()}: means over runs, {spread}.",
        data=cells.rename(columns=_SPREAD),
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
    drawn = _named(cells, [rows, of, columns]).assign(hover=hover)
    figure = _points(drawn, axis, of, rows, columns, shared_xaxes=False)
    highest = cells.loc[cells.groupby([rows, columns], sort=False)["mean"].idxmax(), of]
    first = highest.mode()[0]
    return _finish(
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


def learning_curves(curves: pd.DataFrame) -> go.Figure:
    """Plot validation accuracy by epoch, student (rows), method (columns) and teacher, with baselines: means over runs.

    Args:
        curves: `Results.curves` of a study.
    """
    figure = lines(
        curves.assign(teacher=curves.teacher.fillna(ALONE)),
        Axis("epoch", "epoch", ""),
        Axis("val_top1", "validation top-1", "%"),
        of="teacher",
        rows="student",
        columns="objective",
        everywhere="label",
    )
    caption = (
        "Accuracy in percent on up to 500 images of the validation split after each epoch: means over runs with "
        "95 % t intervals."
    )
    return figure.update_layout(meta={**figure.layout.meta, "caption": caption})


def lines(
    table: pd.DataFrame, across: Axis, up: Axis, *, of: str, rows: str, columns: str, everywhere: str | None = None
) -> go.Figure:
    """Plot the mean of one column against another, with one line per entry of a third, in panels by two more.

    Args:
        table: tidy table with one row per point of a run.
        across, up: the horizontal and the vertical axis.
        of: column with the entries of the lines.
        rows, columns: columns with the rows and columns of panels.
        everywhere: entry of `columns` that is drawn in every panel instead of its own.
    """
    points = [rows, of, columns, across.column]
    means = by_cell(table, up.column, points).sort_values(across.column, kind="stable")
    drawn = _drawn(means, table, points)
    figure = _panels(drawn, rows, columns, everywhere, shared_xaxes=True)
    looks = styles(drawn[of])
    for panel, place in _each(drawn, rows, columns, everywhere):
        for name, line in panel.groupby(of, sort=False):
            figure.add_trace(_line(line, across, up, str(name), looks[name], in_legend=place == (1, 1)), *place)
    for axis in figure.select_yaxes(col=1):
        axis.title.text += f"<br>{up.label}"
    tall = means[rows].nunique()
    figure.update_xaxes(title_text=across.label, row=tall)
    last = means[means[across.column] == means[across.column].max()]
    best = last.loc[last["mean"].idxmax()].map(public)
    return _finish(
        figure,
        height=160 + 260 * tall,
        alt=(
            f"{up.title.capitalize()} by {across.title} by {rows}, one line per {of}. Highest at the end: "
            f"{best['mean']:.1f} {up.unit}, {best[rows]} with {best[of]}."
        ),
        caption=f"{up.title.capitalize()} by {across.title}: means over runs with 95 % t intervals.",
        data=means.rename(columns={"mean": up.label, **_SPREAD}),
    )


def fields(maps: Mapping[str, np.ndarray], *, title: str) -> go.Figure:
    """Plot effective receptive fields as log10(x + 1), in percent of each map's largest value, on a common scale.

    A slider sets a share; on each map, `lkd.erf.area_ratios` gives the smallest centred square with more than it.

    Args:
        maps: contribution maps (H, W), by name.
        title: short description of the maps.
    """
    columns = min(3, len(maps))
    tall = -(-len(maps) // columns)
    names = list(map(_no_markup, maps))
    figure = make_subplots(tall, columns, subplot_titles=names, horizontal_spacing=0.03, vertical_spacing=0.14)
    for place, (name, field) in enumerate(zip(names, maps.values(), strict=True)):
        row, column = divmod(place, columns)
        figure.add_trace(_heatmap(name, np.log10(field + 1)), row + 1, column + 1)
    sides = {t: [area_ratios(field, [t])[0].side for field in maps.values()] for t in THRESHOLDS}
    steps = [
        {"label": f"{threshold:g}", "method": "relayout", "args": [_squares(names, side)]}
        for threshold, side in sides.items()
    ]
    figure.plotly_relayout(steps[_ACTIVE]["args"][0])
    figure.update_annotations(font_size=13)
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, autorange="reversed", scaleanchor="x", constrain="domain", constraintoward="top")
    figure.update_layout(
        coloraxis={"colorscale": "Viridis", "cmin": 0, "cmax": 100, "colorbar": _COLORBAR},
        sliders=[{"active": _ACTIVE, "steps": steps, "currentvalue": {"prefix": _SQUARE}, "pad": {"t": 80}}],
    )
    within = {f"within {r} px (%)": [100 * _within(field, r) for field in maps.values()] for r in _RADII}
    squares = {f"side at {threshold:g} (px)": side for threshold, side in sides.items()}
    data = pd.DataFrame({"whose": list(maps), **within, **squares})
    widest = data.loc[data[f"within {_RADII[1]} px (%)"].idxmin()]
    return _finish(
        figure,
        height=126 + 240 * tall,
        alt=(
            f"Contribution of each input pixel to the centre of the last feature map, for {len(maps)} networks: "
            f"{title}. Most spread out: {public(widest.whose)}."
        ),
        caption=(
            f"{title.capitalize()}: log10(x + 1) of the contribution, in percent of its largest value. The square "
            "is the smallest one around the centre with more than a given share of the map's sum."
        ),
        data=data,
    ).update_layout(margin_t=66)


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


def _heatmap(name: str, log: np.ndarray) -> go.Heatmap:
    """A map in percent of its largest value, one byte per pixel, with coordinates relative to the centre."""
    tall, wide = log.shape
    hover = "%{x:+d} pixels across, %{y:+d} down from the centre<br>%{z} % of the largest log10(x + 1)"
    return go.Heatmap(
        z=np.round(100 * log / log.max()).astype(np.uint8),
        x0=-(wide // 2),
        dx=1,
        y0=-(tall // 2),
        dy=1,
        coloraxis="coloraxis",
        hovertemplate=f"{name}<br>{hover}<extra></extra>",
    )


def _squares(names: Sequence[str], sides: Sequence[int | None]) -> dict[str, Any]:
    """Layout update that draws a square on each map, white inside black, with its side in the title."""
    lines = ({"color": "#000000", "width": 4}, {"color": "#ffffff", "width": 2})
    shapes = [
        {
            "type": "rect",
            **{"xref": f"x{place}", "x0": -side / 2, "x1": side / 2},
            **{"yref": f"y{place}", "y0": -side / 2, "y1": side / 2},
            "line": line,
        }
        for place, side in enumerate(sides, 1)
        if side
        for line in lines
    ]
    titles = [f"{name}<br>{f'{side} px' if side else 'no square'}" for name, side in zip(names, sides, strict=True)]
    return {"shapes": shapes, **{f"annotations[{place}].text": text for place, text in enumerate(titles)}}


def _within(field: np.ndarray, radius: int) -> float:
    """Share of a contribution map inside the centred square with sides of 2 * radius + 1."""
    row, column = (side // 2 for side in field.shape)
    square = field[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]
    return float(square.sum() / field.sum())


def _drawn(cells: pd.DataFrame, table: pd.DataFrame, cell: list[str]) -> pd.DataFrame:
    """Cells to draw, with escaped names, and the text below the mean in a column `hover`."""
    if "run_id" in table:
        cells = cells.merge(table.groupby(cell, sort=False).run_id.first().reset_index())
    hover = [_hover_text(row) for row in cells.to_dict("records")]
    return _named(cells, cell).assign(hover=hover)


def _named(cells: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Cells with escaped names."""
    return cells.assign(**cells[columns].select_dtypes(exclude="number").map(_no_markup))


def _no_markup(entry: Any) -> str:
    """A public name, escaped so that Plotly reads neither HTML nor TeX in it."""
    return escape(public(str(entry)), quote=False).replace("$", "&#36;")


def _hover_text(cell: Mapping[str, Any]) -> str:
    """The interval and its number of runs, or the id of a single run."""
    if cell["n"] > 1:
        return f"95 % interval {cell['low']:.2f} to {cell['high']:.2f}<br>runs: {cell['n']:.0f}"
    return f"one run, no interval<br>run {cell['run_id']}" if "run_id" in cell else "one run, no interval"


def _points(
    drawn: pd.DataFrame, axis: Axis, of: str, rows: str, columns: str, *, shared_xaxes: bool | str
) -> go.Figure:
    """A figure with a point and its interval per cell, in panels by the entries of two columns."""
    figure = _panels(drawn, rows, columns, shared_xaxes=shared_xaxes)
    looks = styles(drawn[of])
    for panel, place in _each(drawn, rows, columns):
        for cell in panel.to_dict("records"):
            where = f"{cell[rows]}, {as_written(cell[columns])}"
            figure.add_trace(_interval(cell, axis, of, where, looks[cell[of]]), *place)
    figure.update_xaxes(title_text=axis.label, row=drawn[rows].nunique())
    return figure.update_yaxes(autorange="reversed", type="category")


def _height_of_points(cells: pd.DataFrame, of: str, rows: str) -> int:
    """Height in pixels of a figure by `_points`."""
    tall: int = cells[rows].nunique()
    return 110 + tall * (60 + 36 * cells[of].nunique())


def _panels(
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


def _each(
    cells: pd.DataFrame, rows: str, columns: str, everywhere: str | None = None
) -> Iterator[tuple[pd.DataFrame, tuple[int, int]]]:
    """Yield the cells of each panel, including those of `everywhere`, and its place."""
    across = [entry for entry in cells[columns].unique() if entry != everywhere]
    for row, down in enumerate(cells[rows].unique(), 1):
        for column, entry in enumerate(across, 1):
            here = (cells[rows] == down) & cells[columns].isin([entry, everywhere])
            yield cells[here], (row, column)


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


def _line(
    line: pd.DataFrame, across: Axis, up: Axis, name: str, style: tuple[str, str, str], in_legend: bool
) -> go.Scatter:
    color, symbol, dash = style
    return go.Scatter(
        x=line[across.column],
        y=line["mean"],
        error_y={
            "type": "data",
            "array": line["high"] - line["mean"],
            "color": f"{color}80",
            "thickness": 1,
            "width": 0,
        },
        customdata=line["hover"],
        mode="lines+markers",
        line={"color": color, "dash": dash, "width": 2},
        marker={"symbol": symbol, "size": 7},
        name=name,
        legendgroup=name,
        showlegend=in_legend,
        hovertemplate=f"{name}<br>{across.title} %{{x}}: %{{y:.2f}} {up.unit}<br>%{{customdata}}<extra></extra>",
    )


def _finish(figure: go.Figure, *, height: int, alt: str, caption: str, data: pd.DataFrame) -> go.Figure:
    table = {"columns": list(data.columns), "rows": public(data.round(3).astype(object).to_numpy().tolist())}
    return figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h", "y": -0.12, "yanchor": "top"},
        meta={"alt": alt, "caption": caption, "table": table, "maker": __name__},
    )
