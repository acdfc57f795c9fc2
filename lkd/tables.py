"""Tables of a chapter, with their data for the book and for programs."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from lkd.runs.public_names import public

MIME_TYPE = "application/vnd.lkd.table+json"
_LOW, _HIGH = " low", " high"
"""Endings of the columns with the ends of an interval."""
_P = "p"
"""The column of p-values, shown with two significant digits."""


class Table:
    """A tidy table as the output of a notebook's cell.

    JupyterLab shows it as HTML; the book adds a link to its CSV. Paths in cells are shortened to their last part.

    Args:
        frame: the data.
        name: name of the table and of its CSV file.
        caption: one sentence about the content.
        digits: number of decimal places shown; the data keep all.
        shown: the columns shown; by default all. The data, and the CSV, have all.

    Example:
        >>> import pandas as pd
        >>> from lkd.tables import Table, read
        >>> table = Table(pd.DataFrame({"gain": [0.25]}), "gains", "Gain in points.")
        >>> read(table._repr_mimebundle_()["application/vnd.lkd.table+json"]).gain.tolist()
        [0.25]
    """

    def __init__(
        self, frame: pd.DataFrame, name: str, caption: str, digits: int = 2, shown: Sequence[str] | None = None
    ):
        self.frame, self.name, self.caption, self.digits = frame, name, caption, digits
        self.shown = list(frame.columns if shown is None else shown)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        frame = _public(self.frame)
        seen = displayed(frame, self.shown, self.digits)
        cells = seen.style.format(precision=self.digits, na_rep="–", thousands=",", escape="html")
        shown = cells.format_index(escape="html", axis="columns").hide(axis="index")
        data = json.loads(frame.to_json(orient="split", index=False, double_precision=15))
        about = {"name": self.name, "caption": self.caption, "digits": self.digits, "shown": self.shown}
        return {"text/html": shown.set_caption(escape(self.caption)).to_html(), MIME_TYPE: {**about, **data}}


def displayed(frame: pd.DataFrame, shown: Sequence[str], digits: int) -> pd.DataFrame:
    """The columns of a table for reading: both ends of an interval in one column, and short p-values, as text.

    Args:
        frame: the data; columns "95 % low" and "95 % high", for example, are ends of an interval.
        shown: the columns to show.
        digits: number of decimal places of the ends.

    Example:
        >>> import pandas as pd
        >>> from lkd.tables import displayed
        >>> frame = pd.DataFrame({"gain": [0.5], "95 % low": [0.25], "95 % high": [0.75], "p": [0.01]})
        >>> displayed(frame, ["gain", "95 % low", "95 % high"], 2).to_dict("list")
        {'gain': [0.5], '95 % interval': ['[0.25, 0.75]']}
    """
    seen = frame[list(shown)].copy()
    for low in [name for name in seen if str(name).endswith(_LOW)]:
        start = str(low).removesuffix(_LOW)
        if (high := start + _HIGH) not in seen:
            continue
        ends = zip(seen[low], seen[high], strict=True)
        seen[low] = [_interval(*each, digits) for each in ends]
        seen = seen.drop(columns=high).rename(columns={low: f"{start} interval".strip()})
    if _P in seen:
        seen[_P] = [None if p is None or p != p else f"{p:.2g}" for p in seen[_P]]
    return seen


def _interval(low: float | None, high: float | None, digits: int) -> str | None:
    return None if low is None or low != low else f"[{low:.{digits}f}, {high:.{digits}f}]"


def _public(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without private paths."""
    shown = frame.copy()
    for name in frame.select_dtypes(exclude=["number", "bool"]):
        shown[name] = frame[name].map(public)
    return shown


def read(content: dict[str, Any]) -> pd.DataFrame:
    """Read the data of a table from a notebook's output."""
    return pd.DataFrame(content["data"], columns=content["columns"])
