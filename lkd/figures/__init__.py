"""Plotly figures from tidy tables, in one style for the whole book.

The `layout.meta` of each figure has an `alt` text, a `caption`, and its data (`table`). Colours have a contrast of 3 to
1 on white and on black, and each teacher of the book also has its own marker.
"""

from lkd.figures.curves import learning_curves, lines
from lkd.figures.fields import fields
from lkd.figures.points import gains, intervals, proportions
from lkd.figures.style import ALONE, GAIN, Axis, as_written, styles

__all__ = [
    "ALONE",
    "GAIN",
    "Axis",
    "as_written",
    "fields",
    "gains",
    "intervals",
    "learning_curves",
    "lines",
    "proportions",
    "styles",
]
