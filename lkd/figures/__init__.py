"""Plotly figures from tidy tables, in one look for the whole book.

The `layout.meta` of each figure has an `alt` text, a `caption`, and its data (`table`). Models have the names of their
families, curves have names at their ends, intervals of curves are bands. Colours have a contrast of 3 to 1 on white and
on black; each teacher and each method of the book always has its own colour and marker.
"""

from importlib.util import find_spec

if find_spec("plotly") is None:
    raise ImportError("figures need the package plotly: run pip install 'lkd[figures]'")

from lkd.figures.confusion import confusion
from lkd.figures.curves import learning_curves, lines
from lkd.figures.fields import fields
from lkd.figures.labels import ALONE, as_written, family, short_names
from lkd.figures.pairs import slopes
from lkd.figures.pareto import pareto
from lkd.figures.points import gains, intervals, proportions
from lkd.figures.style import GAIN, Axis, styles

__all__ = [
    "ALONE",
    "GAIN",
    "Axis",
    "as_written",
    "confusion",
    "family",
    "fields",
    "gains",
    "intervals",
    "learning_curves",
    "lines",
    "pareto",
    "proportions",
    "short_names",
    "slopes",
    "styles",
]
