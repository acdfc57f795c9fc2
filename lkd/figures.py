"""Plotly figures from tidy tables: one style for the whole book.

Each figure carries in `layout.meta` a sentence for those who do not see it (`alt`), a `caption`, and its data
(`table`). Colours keep a contrast of 3 to 1 on white and on black; each teacher of the book has a marker of its own as
well.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lkd.study import by_cell

ALONE = "no teacher"
_STYLE = {
    "mini_slak": ("#D55E00", "circle", "solid"),
    "mini_convnext": ("#0072B2", "square", "dash"),
    "mini_cswin": ("#009E73", "diamond", "dot"),
    "mini_swin": ("#CC79A7", "triangle-up", "dashdot"),
    "mini_vit": ("#B8860B", "star", "longdash"),
    ALONE: ("#808080", "x", "longdashdot"),
}
_SPARE = [("#56789A", symbol, "solid") for symbol in ("hexagon", "cross", "triangle-down", "pentagon", "bowtie")]


def gains(table: pd.DataFrame) -> go.Figure:
    """Direct gain by student (rows), method (columns) and teacher: mean over runs with its 95 % interval.

    Args:
        table: `Results.gains` of a study.
    """
    cells = by_cell(table, "direct_gain")
    figure = _panels(cells, cells.objective.unique(), shared_xaxes="all")
    for panel, (row, column) in _each(cells, cells.objective.unique()):
        for cell in panel.itertuples():
            figure.add_trace(_interval(cell), row, column)
        figure.add_vline(x=0, line={"color": "#808080", "width": 1, "dash": "dot"}, row=row, col=column)
    figure.update_xaxes(title_text="gain (points)", row=cells.student.nunique())
    figure.update_yaxes(autorange="reversed")
    best = cells.loc[cells["mean"].idxmax()]
    intervals = "with 95 % t intervals" if (cells.n > 1).any() else "one run each, so without intervals"
    return _finish(
        figure,
        height=110 + cells.student.nunique() * (60 + 36 * cells.teacher.nunique()),
        alt=(
            f"Direct gain in percentage points of {cells.student.nunique()} students by teacher and method, "
            f"{intervals}. Largest: {best['mean']:+.2f} points, {best.student} taught by {best.teacher} with "
            f"{best.objective.upper()}."
        ),
        caption=f"Direct gain on the test split: means over runs, {intervals}.",
        data=cells.rename(columns={"low": "95 % low", "high": "95 % high", "n": "runs"}),
    )


def learning_curves(curves: pd.DataFrame) -> go.Figure:
    """Validation accuracy by epoch, student (rows), method (columns) and teacher, or none: means over runs.

    Args:
        curves: `Results.curves` of a study.
    """
    learners = curves[curves.train_images.notna()].assign(teacher=lambda table: table.teacher.fillna(ALONE))
    keys = ["student", "teacher", "objective", "epoch"]
    means = learners.groupby(keys, sort=False).val_top1.agg(["mean", "count"]).reset_index()
    objectives = [name for name in means.objective.unique() if name != "label"]
    figure = _panels(means, objectives, shared_xaxes=True)
    for panel, (row, column) in _each(means, objectives):
        for _, line in panel.groupby("teacher", sort=False):
            figure.add_trace(_line(line, in_legend=row == column == 1), row, column)
    figure.update_xaxes(title_text="epoch", row=means.student.nunique())
    last = means[means.epoch == means.epoch.max()]
    best = last.loc[last["mean"].idxmax()]
    return _finish(
        figure,
        height=160 + 260 * means.student.nunique(),
        alt=(
            f"Validation accuracy by epoch of {means.student.nunique()} students, a line for each teacher and one for "
            f"the student alone. Highest at the end: {best['mean']:.1f} %, {best.student} with {best.teacher}."
        ),
        caption="Accuracy in per cent on up to 500 images of the validation split after each epoch: mean over runs.",
        data=means.rename(columns={"mean": "validation top-1 (%)", "count": "runs"}),
    )


def _panels(cells: pd.DataFrame, objectives: Sequence[str], shared_xaxes: bool | str) -> go.Figure:
    """Empty panels: a row for each student, a column for each objective."""
    students = cells.student.unique()
    figure = make_subplots(
        len(students),
        len(objectives),
        column_titles=[objective.upper() for objective in objectives],
        shared_xaxes=shared_xaxes,
        shared_yaxes=True,
        horizontal_spacing=0.05,
        vertical_spacing=0.1,
    )
    for row, student in enumerate(students, 1):
        figure.update_yaxes(title_text=student, row=row, col=1)
    return figure


def _each(cells: pd.DataFrame, objectives: Sequence[str]) -> Iterator[tuple[pd.DataFrame, tuple[int, int]]]:
    """The cells of each panel, those without a teacher in every column, and the panel's place."""
    for row, student in enumerate(cells.student.unique(), 1):
        for column, objective in enumerate(objectives, 1):
            here = (cells.student == student) & cells.objective.isin([objective, "label"])
            yield cells[here], (row, column)


def _interval(cell: Any) -> go.Scatter:
    color, symbol, _ = _style(cell.teacher)
    interval = f"95 % interval {cell.low:.2f} to {cell.high:.2f}" if cell.n > 1 else "no interval from one run"
    return go.Scatter(
        x=[cell.mean],
        y=[cell.teacher],
        error_x={"type": "data", "array": [cell.high - cell.mean], "color": color, "thickness": 2},
        mode="markers",
        marker={"color": color, "symbol": symbol, "size": 10},
        showlegend=False,
        hovertemplate=(
            f"{cell.student} taught by {cell.teacher}, {cell.objective.upper()}<br>direct gain %{{x:.2f}} points"
            f"<br>{interval}<br>runs: {cell.n:.0f}<extra></extra>"
        ),
    )


def _line(line: pd.DataFrame, in_legend: bool) -> go.Scatter:
    teacher = line.teacher.iloc[0]
    color, symbol, dash = _style(teacher)
    return go.Scatter(
        x=line.epoch,
        y=line["mean"],
        mode="lines+markers",
        line={"color": color, "dash": dash, "width": 2},
        marker={"symbol": symbol, "size": 7},
        name=teacher,
        legendgroup=teacher,
        showlegend=in_legend,
        hovertemplate=f"{teacher}<br>epoch %{{x}}: %{{y:.2f}} %<br>runs: {line['count'].iloc[0]}<extra></extra>",
    )


def _style(teacher: str) -> tuple[str, str, str]:
    return _STYLE.get(teacher) or _SPARE[sum(teacher.encode()) % len(_SPARE)]


def _finish(figure: go.Figure, *, height: int, alt: str, caption: str, data: pd.DataFrame) -> go.Figure:
    table = {"columns": list(data.columns), "rows": data.round(3).astype(object).to_numpy().tolist()}
    return figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h", "y": -0.12, "yanchor": "top"},
        meta={"alt": alt, "caption": caption, "table": table},
    )
