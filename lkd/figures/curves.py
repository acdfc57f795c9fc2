"""Curves by epoch, or by another number."""

import pandas as pd
import plotly.graph_objects as go

from lkd.figures.panels import each_panel, panels
from lkd.figures.style import ALONE, SPREAD, Axis, drawn_cells, finished, styles
from lkd.runs.public_names import public
from lkd.study import by_cell


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
    drawn = drawn_cells(means, table, points)
    figure = panels(drawn, rows, columns, everywhere, shared_xaxes=True)
    looks = styles(drawn[of])
    for panel, place in each_panel(drawn, rows, columns, everywhere):
        for name, line in panel.groupby(of, sort=False):
            figure.add_trace(_line(line, across, up, str(name), looks[name], in_legend=place == (1, 1)), *place)
    for axis in figure.select_yaxes(col=1):
        axis.title.text += f"<br>{up.label}"
    tall = means[rows].nunique()
    figure.update_xaxes(title_text=across.label, row=tall)
    last = means[means[across.column] == means[across.column].max()]
    best = last.loc[last["mean"].idxmax()].map(public)
    return finished(
        figure,
        height=160 + 260 * tall,
        alt=(
            f"{up.title.capitalize()} by {across.title} by {rows}, one line per {of}. Highest at the end: "
            f"{best['mean']:.1f} {up.unit}, {best[rows]} with {best[of]}."
        ),
        caption=f"{up.title.capitalize()} by {across.title}: means over runs with 95 % t intervals.",
        data=means.rename(columns={"mean": up.label, **SPREAD}),
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
