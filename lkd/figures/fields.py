"""Effective receptive fields as maps, over a photo if there is one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from lkd.erf import area_ratios
from lkd.erf.analysis import THRESHOLDS
from lkd.figures.labels import capital, no_markup, short_names
from lkd.figures.panels import grid, name_of
from lkd.figures.pictures import picture, picture_url
from lkd.figures.style import faded, finished
from lkd.runs.public_names import public

_RADII = (4, 8, 16, 32)
_ACTIVE = THRESHOLDS.index(0.5)
_SQUARE = "The square has more than this share: "
_FLOOR = 0.01
"""Share of the largest contribution that is drawn as nothing."""
_HEIGHT, _GAP, _BELOW = 230, 44, 26
"""Pixels of a map, between maps, and below them, for the scale of colours."""

_PLAIN = [[0, "#fcf6e7"], [0.25, "#dcb57d"], [0.5, "#c26d52"], [0.75, "#87305b"], [1, "#2d134d"]]
"""From nothing, in the colour of paper, to the largest contribution: lightness falls evenly."""
_OVER_PHOTO = [[0, faded("#D55E00", 0)], [0.5, faded("#E8871E", 0.55)], [1, faded("#FFE94A", 0.9)]]
_COLORBAR = {
    "title": {"text": "contribution, as a share of the map's largest", "side": "top", "font": {"size": 14}},
    "ticklabeloverflow": "allow",
    "len": 0.94,
    "tickvals": [0, 50, 100],
    "ticktext": ["1/100", "1/10", "1"],
    "orientation": "h",
    "yanchor": "top",
    "thickness": 12,
}


def fields(
    maps: Mapping[str, np.ndarray], *, title: str, images: ArrayLike | Mapping[str, ArrayLike] | None = None
) -> go.Figure:
    """Plot effective receptive fields on a logarithmic scale, down to a hundredth of each map's largest value.

    A slider sets a share; on each map, `lkd.erf.area_ratios` gives the smallest centred square with more than it. Maps
    are cropped, all to one size, around the largest square and all that is drawn.

    Args:
        maps: contribution maps (H, W), by name.
        title: short description of the maps.
        images: an image to draw the maps on, or one for each map by its name: (H, W), (H, W, 3), or (C, H, W) with one
            or three channels, in any range of values.

    Raises:
        KeyError: a map without an image.
        ValueError: an image of another height or width than its map, or of another shape.

    Example:
        >>> import numpy as np
        >>> from lkd import figures
        >>> spot = np.pad(np.full((9, 9), 2.0), 20)
        >>> figure = figures.fields({"mini_slak": spot}, title="a field of 9x9 pixels", images=np.eye(49))
        >>> figure.data[0].z.shape, figure.layout.annotations[0].text
        ((9, 9), '<b>SLaK</b>, 7 px')
    """
    behind = _images(maps, images)
    columns = min(3, len(maps))
    tall = -(-len(maps) // columns)
    names = [no_markup(name) for name in short_names(maps).values()]
    sides = {t: [area_ratios(field, [t])[0].side for field in maps.values()] for t in THRESHOLDS}
    radius = max([_visible(maps), *(side // 2 for each in sides.values() for side in each if side)])
    inner = tall * _HEIGHT + (tall - 1) * _GAP
    figure = grid(tall, columns, height=_HEIGHT, spacing=0.04, narrow=2, gap=_GAP)
    for place, (name, field) in enumerate(zip(names, maps.values(), strict=True)):
        row, column = divmod(place, columns)
        figure.add_trace(_heatmap(name, _cropped(field, radius)), row + 1, column + 1)
        figure.add_annotation(name_of(place + 1, name))
    for place, name in enumerate(behind and maps, 1):
        figure.add_layout_image(_photo(_cropped(behind[name], radius), place))
    steps = [
        {"label": f"{threshold:g}", "method": "relayout", "args": [_squares(names, side)]}
        for threshold, side in sides.items()
    ]
    figure.plotly_relayout(steps[_ACTIVE]["args"][0])
    figure.update_xaxes(visible=False, constrain="domain", constraintoward="left")
    figure.update_yaxes(visible=False, autorange="reversed", constrain="domain", constraintoward="top")
    for place in range(1, len(maps) + 1):
        figure.layout[f"yaxis{place if place > 1 else ''}"].scaleanchor = _axis("x", place)
    within = {f"within {r} px (%)": [100 * _within(field, r) for field in maps.values()] for r in _RADII}
    squares = {f"side at {threshold:g} (px)": side for threshold, side in sides.items()}
    data = pd.DataFrame({"whose": list(maps), **within, **squares})
    widest = data.loc[data[f"within {_RADII[1]} px (%)"].idxmin()]
    shown = " The middle of the maps is shown." if _is_cropped(maps, radius) else ""
    return finished(
        figure,
        alt=(
            f"Contribution of each input pixel to the centre of the last feature map, for {len(maps)} networks: "
            f"{title}. Most spread out: {public(short_names(maps)[widest.whose])}."
        ),
        caption=(
            f"{capital(title)}: contribution as a share of each map's largest, on a logarithmic scale.{shown} The "
            "square is the smallest one around the centre with more than a given share of the sum of log10(x + 1)."
        ),
        data=data,
        coloraxis={
            "colorscale": _OVER_PHOTO if behind else _PLAIN,
            "cmin": 0,
            "cmax": 100,
            "colorbar": _COLORBAR | {"y": -10 / inner},
        },
        sliders=[{"active": _ACTIVE, "steps": steps, "currentvalue": {"prefix": _SQUARE}, "pad": {"t": 86}}],
        height=figure.layout.height + _BELOW,
        margin_b=figure.layout.margin.b + _BELOW,
    )


def _images(
    maps: Mapping[str, np.ndarray], images: ArrayLike | Mapping[str, ArrayLike] | None
) -> dict[str, np.ndarray]:
    """The picture (H, W) or (H, W, 3) behind each map; empty without images."""
    if images is None:
        return {}
    each = images if isinstance(images, Mapping) else dict.fromkeys(maps, images)
    if missing := [name for name in maps if name not in each]:
        raise KeyError(f"images has no image for {missing[0]!r}: give one for each map, or one for all")
    found = {name: picture(each[name]) for name in maps}
    for name, field in maps.items():
        if found[name].shape[:2] != np.shape(field):
            raise ValueError(
                f"the image of {name!r} has {found[name].shape[:2]} pixels, its map {np.shape(field)}: give the image "
                "at the size at which the map was measured"
            )
    return found


def _visible(maps: Mapping[str, np.ndarray]) -> int:
    """Pixels from the centre to the furthest one that is drawn in any map."""
    return max(int(_distance(field)[field > _FLOOR * field.max()].max()) for field in maps.values())


def _distance(field: np.ndarray) -> np.ndarray:
    """Distance of each pixel from the centre, the larger of rows and columns."""
    rows, columns = (np.abs(np.arange(side) - side // 2) for side in field.shape)
    return np.maximum(rows[:, None], columns)


def _cropped(values: np.ndarray, radius: int) -> np.ndarray:
    """The middle of a map or picture, with at most `radius` pixels around its central one."""
    row, column = (side // 2 for side in values.shape[:2])
    return values[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]


def _is_cropped(maps: Mapping[str, np.ndarray], radius: int) -> bool:
    return any(_cropped(field, radius).shape != field.shape for field in maps.values())


def _heatmap(name: str, field: np.ndarray) -> go.Heatmap:
    """A map with one byte per pixel, 0 for `_FLOOR` and 100 for the largest, and coordinates relative to the centre."""
    tall, wide = field.shape
    share = np.maximum(field / field.max(), _FLOOR)
    hover = (
        "%{x:+d} pixels across, %{y:+d} down from the centre<br>"
        "%{z} on a scale from 0 (1/100 of the largest contribution or less) to 100 (the largest)"
    )
    return go.Heatmap(
        z=np.round(100 * (1 - np.log10(share) / np.log10(_FLOOR))).astype(np.uint8),
        x0=-(wide // 2),
        dx=1,
        y0=-(tall // 2),
        dy=1,
        coloraxis="coloraxis",
        hovertemplate=f"{name}<br>{hover}<extra></extra>",
    )


def _photo(pixels: np.ndarray, panel: int) -> dict[str, Any]:
    """A picture below a map, in the map's coordinates."""
    tall, wide = pixels.shape[:2]
    place = {"xref": _axis("x", panel), "yref": _axis("y", panel), "x": -(wide // 2) - 0.5, "y": -(tall // 2) - 0.5}
    return {"source": picture_url(pixels), **place, "sizex": wide, "sizey": tall, "sizing": "stretch", "layer": "below"}


def _squares(names: Sequence[str], sides: Sequence[int | None]) -> dict[str, Any]:
    """Layout update that draws a square on each map, white inside black, with its side after the name."""
    lines = ({"color": "#000000", "width": 4}, {"color": "#ffffff", "width": 2})
    shapes = [
        {
            "type": "rect",
            **{"xref": _axis("x", place), "x0": -side / 2, "x1": side / 2},
            **{"yref": _axis("y", place), "y0": -side / 2, "y1": side / 2},
            "line": line,
        }
        for place, side in enumerate(sides, 1)
        if side
        for line in lines
    ]
    titles = [
        f"<b>{name}</b>, {f'{side} px' if side else 'no square'}" for name, side in zip(names, sides, strict=True)
    ]
    return {"shapes": shapes, **{f"annotations[{place}].text": text for place, text in enumerate(titles)}}


def _within(field: np.ndarray, radius: int) -> float:
    """Share of a contribution map inside the centred square with sides of 2 * radius + 1."""
    return float(_cropped(field, radius).sum() / field.sum())


def _axis(letter: str, panel: int) -> str:
    return letter if panel == 1 else f"{letter}{panel}"
