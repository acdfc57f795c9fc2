"""Plotly figures from tidy tables: one style for the whole book.

Each figure carries in `layout.meta` a sentence for those who do not see it (`alt`), a `caption`, and its data
(`table`). Colours keep a contrast of 3 to 1 on white and on black, and every teacher has a marker of its own as well.
"""

from collections.abc import Sequence

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
    """Direct gain of each student by teacher and method, mean over runs with its 95 % interval.

    Args:
        table: `Results.gains` of a study.
    """
    cells = by_cell(table, "direct_gain")
    students, objectives = list(cells.student.unique()), list(cells.objective.unique())
    figure = make_subplots(
        1, len(students), subplot_titles=students, shared_xaxes="all", shared_yaxes=True, horizontal_spacing=0.06
    )
    for column, student in enumerate(students, 1):
        for teacher in cells.teacher.unique():
            for objective in objectives:
                cell = cells[(cells.student == student) & (cells.teacher == teacher) & (cells.objective == objective)]
                figure.add_trace(_interval(cell, objectives), 1, column)
        figure.add_vline(x=0, line={"color": "#808080", "width": 1, "dash": "dot"}, row=1, col=column)
    figure.update_xaxes(title_text="direct gain (points)")
    figure.update_yaxes(autorange="reversed")
    best = cells.loc[cells["mean"].idxmax()]
    return _finish(
        figure,
        height=150 + 36 * cells.teacher.nunique() * len(objectives),
        alt=(
            f"Direct gain in percentage points for {len(students)} students, {cells.teacher.nunique()} teachers and "
            f"{len(objectives)} methods, with 95 % intervals. Largest: {best['mean']:+.2f} points, "
            f"{best.student} taught by {best.teacher} with {best.objective.upper()}."
        ),
        caption="Direct gain on the test split: mean over runs, and 95 % t interval.",
        data=cells.rename(columns={"low": "95 % low", "high": "95 % high", "n": "runs"}),
    )


def learning_curves(curves: pd.DataFrame) -> go.Figure:
    """Validation accuracy of students by epoch, a line for each teacher and one for the student alone; means over runs.

    Args:
        curves: `Results.curves` of a study.
    """
    learners = curves[curves.train_images.notna()]
    students = list(learners.student.unique())
    objectives = [name for name in learners.objective.unique() if name != "label"]
    titles = [f"{student}, {objective.upper()}" for objective in objectives for student in students]
    figure = make_subplots(
        len(objectives), len(students), subplot_titles=titles, shared_xaxes=True, shared_yaxes=True,
        horizontal_spacing=0.06, vertical_spacing=0.12,
    )  # fmt: skip
    cells = learners.assign(teacher=learners.teacher.fillna(ALONE))
    means = cells.groupby(["student", "teacher", "objective", "epoch"], sort=False).val_top1.agg(["mean", "count"])
    means = means.reset_index()
    for row, objective in enumerate(objectives, 1):
        for column, student in enumerate(students, 1):
            panel = means[(means.student == student) & means.objective.isin([objective, "label"])]
            for teacher in panel.teacher.unique():
                line = _line(panel[panel.teacher == teacher], first=row == column == 1)
                figure.add_trace(line, row, column)
            figure.update_xaxes(title_text="epoch" if row == len(objectives) else None, row=row, col=column)
        figure.update_yaxes(title_text="validation top-1 (%)", row=row, col=1)
    last = means[means.epoch == means.epoch.max()]
    best = last.loc[last["mean"].idxmax()]
    return _finish(
        figure,
        height=120 + 290 * len(objectives),
        alt=(
            f"Validation accuracy by epoch, {len(titles)} panels, one line for each teacher and one for the student "
            f"alone. Highest at the end: {best['mean']:.1f} %, {best.student} with {best.teacher}."
        ),
        caption="Accuracy on up to 1,000 images of the validation split after each epoch: mean over runs.",
        data=means.rename(columns={"mean": "validation top-1 (%)", "count": "runs"}),
    )


def _interval(cell: pd.DataFrame, objectives: Sequence[str]) -> go.Scatter:
    """One point with its interval; the method is told by filled and open markers."""
    row = cell.iloc[0]
    color, symbol, _ = _style(row.teacher)
    opened = "-open" if objectives.index(row.objective) % 2 else ""
    return go.Scatter(
        x=[row["mean"]],
        y=[f"{row.teacher} · {row.objective.upper()}"],
        error_x={"type": "data", "array": [row.high - row["mean"]], "color": color, "thickness": 2},
        mode="markers",
        marker={"color": color, "symbol": symbol + opened, "size": 10, "line": {"width": 2, "color": color}},
        name=f"{row.teacher} · {row.objective.upper()}",
        showlegend=False,
        hovertemplate=(
            f"{row.student} taught by {row.teacher}, {row.objective.upper()}<br>direct gain %{{x:.2f}} points"
            f"<br>95 % interval {row.low:.2f} to {row.high:.2f}<br>{int(row.n)} runs<extra></extra>"
        ),
    )


def _line(cell: pd.DataFrame, first: bool) -> go.Scatter:
    teacher = cell.teacher.iloc[0]
    color, symbol, dash = _style(teacher)
    return go.Scatter(
        x=cell.epoch,
        y=cell["mean"],
        mode="lines+markers",
        line={"color": color, "dash": dash, "width": 2},
        marker={"symbol": symbol, "size": 7},
        name=teacher,
        legendgroup=teacher,
        showlegend=first,
        hovertemplate=f"{teacher}<br>epoch %{{x}}: %{{y:.2f}} %<br>mean of {cell['count'].iloc[0]} runs<extra></extra>",
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
