"""Tables of a chapter, with their data for the book and for programs."""

import json
from html import escape
from typing import Any

import pandas as pd

from lkd.runs.public_names import public

MIME_TYPE = "application/vnd.lkd.table+json"


class Table:
    """A tidy table as the output of a notebook's cell.

    JupyterLab shows it as HTML; the book adds a link to its CSV. Paths in cells are shortened to their last part.

    Args:
        frame: the data.
        name: name of the table and of its CSV file.
        caption: one sentence about the content.
        digits: number of decimal places shown; the data keep all.

    Example:
        >>> import pandas as pd
        >>> from lkd.tables import Table, read
        >>> table = Table(pd.DataFrame({"gain": [0.25]}), "gains", "Gain in points.")
        >>> read(table._repr_mimebundle_()["application/vnd.lkd.table+json"]).gain.tolist()
        [0.25]
    """

    def __init__(self, frame: pd.DataFrame, name: str, caption: str, digits: int = 2):
        self.frame, self.name, self.caption, self.digits = frame, name, caption, digits

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        frame = _public(self.frame)
        cells = frame.style.format(precision=self.digits, na_rep="–", thousands=",", escape="html")
        shown = cells.format_index(escape="html", axis="columns").hide(axis="index")
        data = json.loads(frame.to_json(orient="split", index=False, double_precision=15))
        about = {"name": self.name, "caption": self.caption, "digits": self.digits}
        return {"text/html": shown.set_caption(escape(self.caption)).to_html(), MIME_TYPE: {**about, **data}}


def _public(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without private paths."""
    shown = frame.copy()
    for name in frame.select_dtypes(exclude=["number", "bool"]):
        shown[name] = frame[name].map(public)
    return shown


def read(content: dict[str, Any]) -> pd.DataFrame:
    """Read the data of a table from a notebook's output."""
    return pd.DataFrame(content["data"], columns=content["columns"])
