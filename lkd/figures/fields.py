"""Effective receptive fields as pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lkd.erf import area_ratios
from lkd.erf.analysis import THRESHOLDS
from lkd.figures.style import finished, no_markup
from lkd.runs.public_names import public

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


def fields(maps: Mapping[str, np.ndarray], *, title: str) -> go.Figure:
    """Plot effective receptive fields as log10(x + 1), in percent of each map's largest value, on a common scale.

    A slider sets a share; on each map, `lkd.erf.area_ratios` gives the smallest centred square with more than it.

    Args:
        maps: contribution maps (H, W), by name.
        title: short description of the maps.
    """
    columns = min(3, len(maps))
    tall = -(-len(maps) // columns)
    names = list(map(no_markup, maps))
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
    return finished(
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
