"""Curves by epoch, or by another number: means with their intervals as bands, and names at their ends."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy.optimize import isotonic_regression

from lkd.figures.labels import ALONE, capital, no_markup, short_names, told
from lkd.figures.panels import panels
from lkd.figures.style import GREY, SPREAD, Axis, Look, faded, finished, styles, with_texts
from lkd.runs.public_names import public
from lkd.study import by_cell

_HEIGHT = 250
_LABEL, _LETTER = 18, 8
"""Pixels from name to name at the ends of curves, and of a letter."""
_FEW = 6
"""Points of a curve up to which each has a marker."""
_PAIRED = ["student", "seed", "epoch"]
_ACCURACY = Axis("val_top1", "validation top-1", "%")
_LEAD = Axis("lead", "lead over student alone", "points")
_WHEN = "on up to 500 images of the validation split after each epoch: means over runs with 95 % t intervals."
_GLYPHS = {
    "circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "star": "★", "hexagon": "⬢", "cross": "✚",
    "triangle-down": "▼", "pentagon": "⬟", "x": "✖",
    "circle-open": "○", "square-open": "□", "diamond-open": "◇", "triangle-up-open": "△", "star-open": "☆",
}  # fmt: skip
"""Markers as text; others are shown as a circle."""


def learning_curves(curves: pd.DataFrame) -> go.Figure:
    """Plot how far students are ahead of the student alone by epoch, paired by seed; a button shows the accuracies.

    Panels are by student (rows) and method (columns), with one curve per teacher: means over runs with 95 % intervals.
    Without one student alone for each seed, the figure shows accuracies only.

    Args:
        curves: `Results.curves` of a study.

    Example:
        >>> import pandas as pd
        >>> from lkd import figures
        >>> alone = {"student": "mini_resnet", "teacher": None, "objective": "label", "seed": 0}
        >>> rows = [alone | {"epoch": 1, "val_top1": 20.0}, alone | {"epoch": 2, "val_top1": 30.0}]
        >>> taught = {"teacher": "mini_slak", "objective": "kd"}
        >>> rows += [row | taught | {"val_top1": row["val_top1"] + row["epoch"]} for row in rows]
        >>> figure = figures.learning_curves(pd.DataFrame(rows))
        >>> figure.data[0].name, figure.data[0].y.tolist()
        ('SLaK', [1.0, 2.0])
    """
    named = {"of": "teacher", "rows": "student", "columns": "objective"}
    epoch = Axis("epoch", "epoch", "")
    accuracies = lines(
        curves.assign(teacher=curves.teacher.fillna(ALONE)), epoch, _ACCURACY, everywhere="label", **named
    )
    accuracies.layout.meta.update(caption=f"Accuracy in percent {_WHEN}")
    taught = curves[curves.teacher.notna()]
    alone = curves[curves.teacher.isna()].set_index(_PAIRED).val_top1
    keys = pd.MultiIndex.from_frame(taught[_PAIRED])
    if not len(keys) or not alone.index.is_unique or not keys.isin(alone.index).all():
        return accuracies
    paired = alone.loc[keys].to_numpy()
    leads = lines(taught.assign(lead=taught.val_top1 - paired), epoch, _LEAD, **named)
    leads.add_hline(y=0, line={"color": GREY, "width": 1.5, "dash": "dot"}, row="all", col="all")
    leads.layout.meta.update(
        alt=f"{leads.layout.meta['alt']} A second view shows accuracies.",
        caption=(
            "Lead: accuracy minus that of the student alone (dotted line) with the same seed, in points. Accuracy: in "
            f"percent. Both {_WHEN}"
        ),
        table=_merged(accuracies.layout.meta["table"], leads.layout.meta["table"], [*named.values(), "epoch"]),
    )
    return _with_views({"Lead over the student alone": leads, "Accuracy": accuracies})


def lines(
    table: pd.DataFrame, across: Axis, up: Axis, *, of: str, rows: str, columns: str, everywhere: str | None = None
) -> go.Figure:
    """Plot the mean of one column against another, with one line per entry of a third, in panels by two more.

    The axes fit the means; a band that is much wider than these ends at the edge of its panel.

    Args:
        table: tidy table with one row per point of a run.
        across, up: the horizontal and the vertical axis.
        of: column with the entries of the lines.
        rows, columns: columns with the rows and columns of panels.
        everywhere: entry of `columns` that is drawn in every panel instead of its own.

    Example:
        >>> import pandas as pd
        >>> from lkd import figures
        >>> table = pd.DataFrame({"student": "mini_resnet", "variant": "DKD", "strength": "weak"}, index=range(2))
        >>> across, up = figures.Axis("epochs", "epochs", ""), figures.Axis("top1", "test top-1", "%")
        >>> table = table.assign(epochs=[3, 6], top1=[50.0, 62.0])
        >>> figure = figures.lines(table, across, up, of="variant", rows="student", columns="strength")
        >>> figure.data[0].y.tolist()
        [50.0, 62.0]
    """
    points = [rows, of, columns, across.column]
    means = by_cell(table, up.column, points).sort_values(across.column, kind="stable")
    entries = table[of].drop_duplicates()
    looks, names = styles(entries), short_names(entries)
    figure, found = panels(
        with_texts(means, table, points),
        *(rows, columns, everywhere),
        height=_HEIGHT,
        spacing=0.2,
        shared_xaxes=True,
        shared_yaxes=True,
    )
    ranges = {row: _range(means[means[rows] == entry]) for row, entry in enumerate(means[rows].unique(), 1)}
    for number, panel in enumerate(found, 1):
        ends = {}
        for entry in entries[entries.isin(panel.cells[of])]:
            line, name = panel.cells[panel.cells[of] == entry], no_markup(names[entry])
            text = f"{panel.name}<br>{told(of, entry, names[entry])}"
            if (line.n > 1).any():
                figure.add_trace(_band(line, across, name, looks[entry]), panel.row, panel.column)
            figure.add_trace(_line(line, across, up, name, text, looks[entry]), panel.row, panel.column)
            ends[_label(name, looks[entry])] = line["mean"].iloc[-1]
        for label in _at_ends(ends, number, ranges[panel.row]):
            figure.add_annotation(label)
        figure.update_yaxes(range=ranges[panel.row], row=panel.row, col=panel.column)
    first, last = means[across.column].min(), means[across.column].max()
    room = 0.03 * (last - first) or 0.5
    figure.update_xaxes(range=[first - room, last + room])
    figure.update_xaxes(title_text=across.label, row=found[-1].row)
    figure.update_yaxes(title_text=up.label, col=1)
    final = means[means[across.column] == last]
    best = final.loc[final["mean"].idxmax()]
    learner, with_ = (public(short_names(means[column].unique())[best[column]]) for column in (rows, of))
    return finished(
        figure,
        alt=(
            f"{capital(up.title)} by {across.title} by {rows}, one line per {of}. Highest at the end: "
            f"{best['mean']:.1f} {up.unit}, {learner} with {with_}."
        ),
        caption=f"{capital(up.title)} by {across.title}: means over runs with 95 % t intervals.",
        data=means.rename(columns={"mean": up.label, **SPREAD}),
        margin_r=26 + _LETTER * max(map(len, names.values())),
    )


def _band(line: pd.DataFrame, across: Axis, name: str, style: Look) -> go.Scatter:
    """The intervals of a curve as an area."""
    known = line[line.n > 1]
    return go.Scatter(
        x=[*known[across.column], *known[across.column][::-1]],
        y=[*known.high.round(3), *known.low[::-1].round(3)],
        mode="none",
        fill="toself",
        fillcolor=faded(style[0], 0.1),
        name=name,
        hoverinfo="skip",
    )


def _line(line: pd.DataFrame, across: Axis, up: Axis, name: str, text: str, style: Look) -> go.Scatter:
    """The means of a curve, with a marker at its end or, if there are few, at each."""
    color, symbol, dash = style
    several = len(line) > _FEW
    return go.Scatter(
        x=line[across.column],
        y=line["mean"],
        customdata=line["hover"],
        mode="lines+markers",
        line={"color": color, "dash": dash, "width": 2},
        marker={"color": color, "symbol": symbol, "size": [0] * (len(line) - 1) + [9] if several else 9, "opacity": 1},
        name=name,
        hovertemplate=f"{text}<br>{across.title} %{{x}}: %{{y:.2f}} {up.unit}<br>%{{customdata}}<extra></extra>",
    )


def _range(means: pd.DataFrame) -> list[float]:
    """The ends of an axis for means, and for their intervals up to half of the distance between the means."""
    least, most = means["mean"].min(), means["mean"].max()
    room = 0.5 * (most - least) or 0.5
    low = max(means.low.min(), least - room) if means.low.notna().any() else least
    high = min(means.high.max(), most + room) if means.high.notna().any() else most
    edge = 0.06 * (high - low) or 0.5
    return [float(low - edge), float(high + edge)]


def _label(name: str, style: Look) -> str:
    color, symbol, _ = style
    return f'<span style="color:{color}">{_GLYPHS.get(symbol, "●")}</span> {name}'


def _at_ends(ends: Mapping[str, float], panel: int, scale: Sequence[float]) -> list[dict[str, Any]]:
    """Annotations at the right of a panel, at the ends of its curves, as close to these as they do not overlap."""
    step = _LABEL * (scale[1] - scale[0]) / _HEIGHT
    ordered = sorted(ends, key=ends.__getitem__)
    steps = step * np.arange(len(ordered))
    free = isotonic_regression(np.array([ends[text] for text in ordered]) - steps).x
    heights = np.clip(free, scale[0], scale[1] - steps[-1]) + steps
    axis = panel if panel > 1 else ""
    place = {"xref": f"x{axis} domain", "yref": f"y{axis}", "x": 1, "xanchor": "left", "xshift": 4, "showarrow": False}
    return [{"text": text, "y": float(height), **place} for text, height in zip(ordered, heights, strict=True)]


def _merged(first: Mapping[str, Any], second: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    """The tables of two figures as one; columns of the second that both have are named after its quantity."""
    one, other = (pd.DataFrame(table["rows"], columns=table["columns"]) for table in (first, second))
    (value,) = other.columns.difference([*keys, "sd", *SPREAD.values()])
    ends = {column: f"{value}, {column}" for column in ("sd", SPREAD["low"], SPREAD["high"])}
    both = one.merge(other.drop(columns=SPREAD["n"]).rename(columns=ends), how="left", on=keys)
    return {"columns": list(both.columns), "rows": both.astype(object).where(both.notna(), None).to_numpy().tolist()}


def _with_views(views: Mapping[str, go.Figure]) -> go.Figure:
    """One figure that shows the first of several with equal panels, and has a button for each."""
    first = next(iter(views.values()))
    counts = np.cumsum([0, *(len(view.data) for view in views.values())])
    whole = go.Figure(layout=first.layout)
    buttons = []
    for place, (label, view) in enumerate(views.items()):
        here = [bool(counts[place] <= trace < counts[place + 1]) for trace in range(counts[-1])]
        whole.add_traces([trace.update(visible=place == 0) for trace in view.data])
        axes = {
            f"{axis}.{part}": view.layout[axis].to_plotly_json().get(part)
            for axis in view.to_plotly_json()["layout"]
            if axis.startswith("yaxis")
            for part in ("range", "title")
        }
        layout = {"annotations": view.layout.annotations, "shapes": view.layout.shapes, **axes}
        buttons.append({"label": label, "method": "update", "args": [{"visible": here}, layout]})
    menu = {"type": "buttons", "direction": "right", "buttons": buttons, "showactive": True}
    corner = {"x": 1, "xanchor": "right", "y": 0, "yanchor": "top", "pad": {"t": 26}}
    room = max(view.layout.margin.r for view in views.values())
    return whole.update_layout(updatemenus=[menu | corner], margin_r=room)
