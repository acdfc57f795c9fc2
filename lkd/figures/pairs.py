"""Paired values as slopes."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lkd.figures.labels import no_markup, short_names, told
from lkd.figures.panels import panels
from lkd.figures.style import SPREAD, Axis, Look, finished, styles
from lkd.runs.public_names import public
from lkd.study import by_cell
from lkd.study.compare import REPLICATES

_HEIGHT = 250
_HALF = 0.3
"""Half the width of a pair, where pairs are 1 apart."""
_DIFFERENCE = "_difference"
_REPLICATE = {"teacher_seed": "instance", "seed": "seed", "run_id": "run"}


def slopes(table: pd.DataFrame, before: Axis, after: Axis, *, of: str, rows: str, columns: str) -> go.Figure:
    """Plot pairs of values as thin lines from left to right, with their mean as a thick one, in panels by two columns.

    A pair that falls is dotted. The table of the figure has the mean differences with their 95 % t intervals.

    Args:
        table: tidy table with one row per pair, such as `Results.gains`.
        before, after: the values at the left and at the right, with one unit.
        of: column with the entries of a panel, from left to right.
        rows, columns: columns with the rows and columns of panels.

    Raises:
        ValueError: `before` and `after` have different units.

    Example:
        >>> import pandas as pd
        >>> from lkd import figures
        >>> table = pd.DataFrame({"student": "mini_resnet", "teacher": "mini_slak", "objective": "kd", "seed": [0, 1]})
        >>> table = table.assign(student_top1=[70.0, 72.0], distilled_top1=[73.0, 73.0])
        >>> alone = figures.Axis("student_top1", "alone", "%")
        >>> distilled = figures.Axis("distilled_top1", "distilled", "%")
        >>> figure = figures.slopes(table, alone, distilled, of="teacher", rows="student", columns="objective")
        >>> figure.layout.meta["alt"].partition("Largest ")[2]
        'mean difference: +2.00, ResNet, KD, SLaK.'
    """
    if before.unit != after.unit:
        raise ValueError(f"before is in {before.unit!r}, after in {after.unit!r}: give two values with one unit")
    pairs = table.assign(**{_DIFFERENCE: table[after.column] - table[before.column]})
    cells = by_cell(pairs, _DIFFERENCE, [rows, of, columns])
    figure, found = panels(pairs, rows, columns, height=_HEIGHT, spacing=0.06, shared_xaxes=True, shared_yaxes=True)
    entries = pairs[of].drop_duplicates()
    looks, names = styles(entries), short_names(entries)
    for panel in found:
        for place, entry in enumerate(entries):
            some = panel.cells[panel.cells[of] == entry]
            text = f"{panel.name}<br>{told(of, entry, names[entry])}"
            ends = f"{before.title} %{{customdata[0]:.2f}}, {after.title} %{{customdata[1]:.2f}} {after.unit}"
            for trace in _slopes_of(some, before, after, place, looks[entry]):
                trace.update(
                    name=no_markup(names[entry]), hovertemplate=f"{text}<br>{ends}<br>%{{text}}<extra></extra>"
                )
                figure.add_trace(trace, panel.row, panel.column)
    for row, entry in enumerate(pairs[rows].unique(), 1):
        figure.update_yaxes(range=_range(pairs[pairs[rows] == entry][[before.column, after.column]]), row=row)
    figure.update_xaxes(
        range=[-0.6, len(entries) - 0.4],
        tickvals=list(range(len(entries))),
        ticktext=[no_markup(names[entry]) for entry in entries],
        showgrid=False,
    )
    figure.update_xaxes(title_text=f"from {before.title} to {after.title}", row=found[-1].row)
    figure.update_yaxes(title_text=before.unit, col=1)
    best = cells.loc[cells["mean"].idxmax()]
    where = ", ".join(public(short_names(cells[column].unique())[best[column]]) for column in (rows, columns, of))
    rising = (pairs[_DIFFERENCE] > 0).sum()
    return finished(
        figure,
        alt=(
            f"{len(pairs)} pairs from {before.title} to {after.title} in {after.unit} by {rows}, {columns} and {of}; "
            f"{rising} rise. Largest mean difference: {best['mean']:+.2f}, {where}."
        ),
        caption=(
            f"From {before.title} (left end) to {after.title} (right end): one thin line for each pair, dotted if it "
            f"falls, and a thick line for their mean. {rising} of {len(pairs)} pairs rise."
        ),
        data=cells.rename(columns={"mean": f"mean difference ({after.unit})", **SPREAD}),
    )


def _range(values: pd.DataFrame) -> list[float]:
    """The ends of an axis for all values."""
    least, most = values.min(axis=None), values.max(axis=None)
    room = 0.05 * (most - least) or 0.5
    return [least - room, most + room]


def _slopes_of(pairs: pd.DataFrame, before: Axis, after: Axis, place: int, style: Look) -> list[go.Scatter]:
    """The lines of one entry: pairs that rise, pairs that fall, and the mean."""
    color, symbol, _ = style
    falls = pairs[_DIFFERENCE] < 0
    thin = {"mode": "lines+markers", "marker": {"color": color, "size": 3}, "opacity": 0.55}
    kinds = {"solid": pairs[~falls], "dot": pairs[falls]}
    traces = [
        go.Scatter(**_path(some, before, after, place), **thin, line={"color": color, "width": 1, "dash": dash})
        for dash, some in kinds.items()
        if len(some)
    ]
    if len(pairs) > 1:
        mean = pairs[[before.column, after.column, _DIFFERENCE]].mean().to_frame().T
        line, marker = {"color": color, "width": 4}, {"color": color, "symbol": symbol, "size": 9}
        traces.append(go.Scatter(**_path(mean, before, after, place), mode="lines+markers", line=line, marker=marker))
    return traces


def _path(pairs: pd.DataFrame, before: Axis, after: Axis, place: int) -> dict[str, list[Any]]:
    """Points of the lines of pairs, with gaps between lines, and the text of each."""
    known = [name for name in (*REPLICATES, "run_id") if name in pairs]
    path: dict[str, list[Any]] = {"x": [], "y": [], "customdata": [], "text": []}
    for row in pairs.to_dict("records"):
        ends = [row[before.column], row[after.column]]
        about = ", ".join(f"{_REPLICATE[name]} {row[name]}" for name in known if row[name] == row[name])
        path["x"] += [place - _HALF, place + _HALF, None]
        path["y"] += [*ends, None]
        path["customdata"] += [ends, ends, [None, None]]
        path["text"] += [f"{row[_DIFFERENCE]:+.2f}, {about or 'mean'}"] * 2 + [""]
    return path
