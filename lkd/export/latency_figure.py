"""Figure of accuracy against latency."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pandas as pd

from lkd.runs.public_names import public

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FRONTIER, _OTHER = "#D55E00", "#808080"


def pareto_figure(table: pd.DataFrame) -> "go.Figure":
    """Plot accuracy against latency, one panel for each runtime and batch, with the frontier as a line and named.

    Args:
        table: see `lkd.export.pareto`; models without accuracy are left out.

    Raises:
        ImportError: Plotly is not installed.
        ValueError: no model has an accuracy.

    Example:
        >>> import pandas as pd
        >>> from lkd.export import pareto_figure
        >>> rows = {"model": ["a", "b"], "top1": [90.0, 95.0], "runtime": "PyTorch", "batch": 1, "ms": [1.0, 2.0]}
        >>> figure = pareto_figure(pd.DataFrame(rows).assign(parameters=1, macs=1, threads=1, frontier=True))
        >>> figure.layout.meta["alt"]
        'Top-1 accuracy against latency of 2 models. Frontier in PyTorch, batch 1: a, b.'
    """
    known = table[table.top1.notna()]
    if known.empty:
        raise ValueError("no model has an accuracy to plot: give runs, or data= for pretrained models")
    known = known.assign(model=known.model.map(public))
    panels = list(known.groupby(["runtime", "batch"], sort=False))
    figure = _panels([f"{runtime}, batch {batch}" for (runtime, batch), _ in panels])
    for column, (_, rows) in enumerate(panels, start=1):
        _draw(figure, rows.sort_values("ms"), column)
    (runtime, batch), first = panels[0]
    best = ", ".join(first[first.frontier].sort_values("ms").model)
    shown = known.drop(columns=["data"], errors="ignore").round(3).astype(object)
    return figure.update_layout(
        height=420,
        showlegend=False,
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        meta={
            "alt": f"Top-1 accuracy against latency of {known.model.nunique()} models. "
            f"Frontier in {runtime}, batch {batch}: {best}.",
            "caption": f"Latency of a batch on {known.threads.iloc[0]} CPU thread(s); the line is the frontier.",
            "table": {"columns": list(shown.columns), "rows": shown.to_numpy().tolist()},
        },
    )


def require_plotly() -> None:
    """Refuse to go on without Plotly.

    Raises:
        ImportError: names the remedy.
    """
    if find_spec("plotly") is None:
        raise ImportError("figures need the package plotly: run pip install 'lkd[figures]'")


def _panels(titles: list[str]) -> "go.Figure":
    require_plotly()
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=len(titles), subplot_titles=titles, shared_yaxes=True)
    figure.update_xaxes(title_text="ms per batch", type="log")
    return figure.update_yaxes(title_text="top-1 (%)", col=1)


def _draw(figure: "go.Figure", rows: pd.DataFrame, column: int) -> None:
    best = rows[rows.frontier]
    hover = [
        f"{row.model}<br>{row.parameters:,} parameters<br>{row.macs / 1e6:,.1f} M MACs" for row in rows.itertuples()
    ]
    figure.add_scatter(
        x=best.ms,
        y=best.top1,
        mode="lines",
        line={"color": _FRONTIER, "shape": "hv"},
        hoverinfo="skip",
        row=1,
        col=column,
    )
    figure.add_scatter(
        x=rows.ms,
        y=rows.top1,
        mode="markers+text",
        text=[row.model if row.frontier else "" for row in rows.itertuples()],
        textposition="bottom right",
        marker={"size": 9, "color": [_FRONTIER if frontier else _OTHER for frontier in rows.frontier]},
        customdata=hover,
        hovertemplate="%{customdata}<br>%{y:.2f} %, %{x:.3g} ms<extra></extra>",
        row=1,
        col=column,
    )
