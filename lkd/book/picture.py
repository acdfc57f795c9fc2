"""Static pictures of the book's Plotly figures, drawn by Matplotlib for readers without scripts."""

import base64
import io
import re
from collections.abc import Mapping
from html import unescape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

_MAKER = "lkd.figures"
_DOTS_PER_INCH = 96
_WIDTH = 760
_MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "star": "*",
    "x": "X",
    "cross": "P",
    "hexagon": "h",
    "pentagon": "p",
    "bowtie": "d",
}
_DASHES: dict[str, Any] = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (8, 3)),
    "longdashdot": (0, (8, 3, 1, 3)),
}
_STYLE: Any = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "lkd",
    "text.parse_math": False,
}


def svg(figure: Mapping[str, Any]) -> str | None:
    """A figure of `lkd.figures` as a picture; None for one that was made elsewhere, or that traces were added to.

    Points and lines with their intervals, maps on a shared scale with the squares that are shown at first.

    Args:
        figure: as in Plotly's JSON.
    """
    ours = (figure.get("layout", {}).get("meta") or {}).get("maker") == _MAKER
    if not ours or {trace["type"] for trace in figure["data"]} not in ({"scatter"}, {"heatmap"}):
        return None
    with mpl.rc_context(_STYLE), io.StringIO() as file:
        drawn(figure).savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue()


def drawn(figure: Mapping[str, Any]) -> Figure:
    """The same figure in Matplotlib, panel by panel."""
    layout = figure["layout"]
    size = _WIDTH / _DOTS_PER_INCH, layout.get("height", 450) / _DOTS_PER_INCH
    picture = Figure(figsize=size, dpi=_DOTS_PER_INCH, layout="constrained")
    panels = _panels(picture, layout)
    for trace in figure["data"]:
        panel = panels[trace.get("xaxis", "x")]
        if trace["type"] == "heatmap":
            image = _map(panel, trace)
        else:
            _points(panel, trace)
    for shape in layout.get("shapes", ()):
        _shape(panels["x" if shape["xref"] == "x1" else shape["xref"]], shape)
    if figure["data"][0]["type"] == "heatmap":
        title = layout["coloraxis"]["colorbar"]["title"]["text"]
        picture.colorbar(image, ax=list(panels.values()), location="bottom", shrink=0.5, aspect=40, label=title)
    lines = {line.get_label(): line for panel in panels.values() for line in panel.get_legend_handles_labels()[0]}
    if lines:
        handles, labels = list(lines.values()), [str(label) for label in lines]
        picture.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    for panel in panels.values():
        if not panel.lines:
            panel.set_axis_off()
    return picture


def _panels(picture: Figure, layout: Mapping[str, Any]) -> dict[str, Axes]:
    """The axes of each panel, by the name of Plotly's x axis, with their titles."""
    names = [key.replace("axis", "") for key in layout if re.fullmatch(r"xaxis\d*", key)]
    places = {name: [_domain(layout, axis + name[1:])[0] for axis in "xy"] for name in names}
    across, down = (sorted({place[axis] for place in places.values()}, reverse=axis == 1) for axis in (0, 1))
    grid = picture.add_gridspec(len(down), len(across))
    panels: dict[str, Axes] = {}
    for name, (left, bottom) in places.items():
        panel = panels[name] = picture.add_subplot(grid[down.index(bottom), across.index(left)])
        panel.set(xlabel=_title(layout["xaxis" + name[1:]]), ylabel=_title(layout["yaxis" + name[1:]]))
    for name, panel in panels.items():
        across_it, up_it = (layout[f"{axis}axis{name[1:]}"] for axis in "xy")
        if "matches" in across_it:
            panel.sharex(panels[across_it["matches"]])
        if "matches" in up_it:
            panel.sharey(panels["x" + up_it["matches"][1:]])
        elif up_it.get("autorange") == "reversed":
            panel.invert_yaxis()
        panel.tick_params(
            labelbottom=across_it.get("showticklabels", True), labelleft=up_it.get("showticklabels", True)
        )
    for title in layout.get("annotations", ()):
        _nearest(title, panels, layout).set_title(_plain(title["text"]), fontsize=9)
    return panels


def _nearest(title: Mapping[str, Any], panels: Mapping[str, Axes], layout: Mapping[str, Any]) -> Axes:
    """The panel that a title stands above."""

    def distance(name: str) -> float:
        (left, right), (_, top) = (_domain(layout, axis + name[1:]) for axis in "xy")
        return abs((left + right) / 2 - title["x"]) + abs(top - title["y"])

    return panels[min(panels, key=distance)]


def _points(panel: Axes, trace: Mapping[str, Any]) -> None:
    """Points with intervals along either axis, joined where the trace has lines."""
    line, color = trace.get("line", {}), (trace.get("line") or trace["marker"])["color"]
    x, y = ([unescape(value) if isinstance(value, str) else value for value in _values(trace[axis])] for axis in "xy")
    panel.errorbar(
        x,
        y,
        xerr=_error(trace, "error_x"),
        yerr=_error(trace, "error_y"),
        color=color,
        marker=_MARKERS[trace["marker"]["symbol"]],
        markersize=0.7 * trace["marker"]["size"],
        linestyle=_DASHES[line["dash"]] if line else "none",
        elinewidth=1,
        label=_plain(trace["name"]) if trace.get("showlegend") else None,
    )


def _error(trace: Mapping[str, Any], side: str) -> np.ndarray | None:
    if side not in trace:
        return None
    return np.nan_to_num(np.array(_values(trace[side]["array"]), dtype=float))


def _map(panel: Axes, trace: Mapping[str, Any]) -> Any:
    """A map with its places counted as Plotly does, down from the top."""
    values = _values(trace["z"])
    tall, wide = values.shape
    left, top = trace["x0"] - 0.5, trace["y0"] - 0.5
    return panel.imshow(values, cmap="viridis", vmin=0, vmax=100, extent=(left, left + wide, top + tall, top))


def _shape(panel: Axes, shape: Mapping[str, Any]) -> None:
    """A vertical line through a panel, or a square on a map."""
    look = {"color": shape["line"]["color"], "linewidth": shape["line"]["width"]}
    if shape["type"] == "line":
        panel.axvline(shape["x0"], linestyle=_DASHES[shape["line"]["dash"]], zorder=0, **look)
        return
    corner = shape["x0"], shape["y0"]
    panel.add_patch(Rectangle(corner, shape["x1"] - corner[0], shape["y1"] - corner[1], fill=False, **look))


def _values(column: Any) -> Any:
    """A column of a trace: a list, or an array as Plotly packs it."""
    if not isinstance(column, Mapping):
        return column
    values = np.frombuffer(base64.b64decode(column["bdata"]), column["dtype"])
    return values.reshape([int(side) for side in column["shape"].split(",")]) if "shape" in column else values


def _domain(layout: Mapping[str, Any], axis: str) -> list[float]:
    """Where an axis begins and ends, as shares of the figure."""
    return layout[f"{axis[0]}axis{axis[1:]}"].get("domain", [0, 1])


def _title(axis: Mapping[str, Any]) -> str:
    return _plain(axis.get("title", {}).get("text", ""))


def _plain(text: str) -> str:
    """Plotly's text without its markup."""
    return unescape(text.replace("<br>", "\n"))
