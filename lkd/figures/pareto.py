"""Accuracy against latency, with the frontier."""

from math import log10
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lkd.figures.labels import no_markup, short_names, told
from lkd.figures.panels import grid, name_of
from lkd.figures.style import GREY, Look, finished, styles
from lkd.runs.public_names import public

_HEIGHT = 300
_TICKS = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5)]
_ROOM = (0.12, 0.45)
"""Room beside the points for the names of models, as shares of the latencies' range on its logarithmic axis."""


def pareto(table: pd.DataFrame) -> go.Figure:
    """Plot accuracy against latency, one panel for each runtime and batch; the line is the frontier.

    Args:
        table: see `lkd.export.pareto`; models without accuracy are left out.

    Raises:
        ValueError: no model has an accuracy.

    Example:
        >>> import pandas as pd
        >>> from lkd import figures
        >>> rows = {"model": ["a", "b"], "top1": [90.0, 95.0], "runtime": "PyTorch", "batch": 1, "ms": [1.0, 2.0]}
        >>> figure = figures.pareto(pd.DataFrame(rows).assign(parameters=1, macs=1, threads=1, frontier=True))
        >>> figure.layout.meta["alt"]
        'Top-1 accuracy against latency of 2 models. Frontier in PyTorch, batch 1: a, b.'
    """
    known = table[table.top1.notna()]
    if known.empty:
        raise ValueError("no model has an accuracy to plot: give runs, or data= for pretrained models")
    looks, names = styles(known.model), short_names(known.model)
    panels = [(key, rows.sort_values("ms")) for key, rows in known.groupby(["runtime", "batch"], sort=False)]
    figure = grid(1, len(panels), height=_HEIGHT, spacing=0.06, shared_yaxes=True)
    for column, ((runtime, batch), rows) in enumerate(panels, 1):
        figure.add_annotation(name_of(column, f"<b>{runtime}</b>, batch {batch}"))
        figure.add_trace(_frontier(rows[rows.frontier]), 1, column)
        for row in rows.to_dict("records"):
            figure.add_trace(_point(row, names[row["model"]], looks[row["model"]]), 1, column)
        figure.update_xaxes(title_text="ms per batch", range=_range(rows.ms), col=column)
    figure.update_xaxes(type="log", tickvals=_TICKS)
    figure.update_yaxes(title_text="top-1 (%)", col=1)
    (runtime, batch), first = panels[0]
    best = ", ".join(public(names[model]) for model in first[first.frontier].model)
    return finished(
        figure,
        alt=f"Top-1 accuracy against latency of {len(names)} models. Frontier in {runtime}, batch {batch}: {best}.",
        caption=f"Latency of a batch on {known.threads.iloc[0]} CPU thread(s). No model above or left of the line.",
        data=known.drop(columns="data", errors="ignore"),
    )


def _frontier(best: pd.DataFrame) -> go.Scatter:
    line = {"color": GREY, "width": 1.5, "shape": "hv"}
    return go.Scatter(x=best.ms, y=best.top1, mode="lines", line=line, hoverinfo="skip")


def _point(row: dict[Any, Any], name: str, look: Look) -> go.Scatter:
    """A model's point, with its name above the frontier or below it."""
    color, symbol, _ = look
    size = f"{row['parameters']:,} parameters<br>{row['macs'] / 1e6:,.1f} M MACs"
    return go.Scatter(
        x=[row["ms"]],
        y=[row["top1"]],
        mode="markers+text",
        text=[no_markup(name)],
        textposition="top right" if row["frontier"] else "bottom right",
        cliponaxis=False,
        marker={"color": color, "symbol": symbol, "size": 11},
        hovertemplate=f"{told('model', row['model'], name)}<br>{size}<br>%{{y:.2f}} %, %{{x:.3g}} ms<extra></extra>",
    )


def _range(ms: pd.Series) -> tuple[float, float]:
    """The ends of a logarithmic axis, as exponents of 10, with room for names."""
    low, high = log10(ms.min()), log10(ms.max())
    wide = max(high - low, 0.3)
    return low - _ROOM[0] * wide, high + _ROOM[1] * wide
