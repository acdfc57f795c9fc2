"""Tables of a chapter: shown to people, with their data beside them for the book and for programs."""

import json
from html import escape
from typing import Any

import pandas as pd

from lkd.runs.public_names import public

MIME_TYPE = "application/vnd.lkd.table+json"


class Table:
    """A tidy table as the last word of a notebook's cell.

    JupyterLab shows it as HTML; the book shows it with a link to its CSV. Paths in its cells are shown by their
    last names.

    Args:
        frame: the data.
        name: by which it is found again, and the name of its CSV file.
        caption: what it shows, in a sentence.
        digits: decimal places shown; the data keep all of them.

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
    """A table as others may see it."""
    shown = frame.copy()
    for name in frame.select_dtypes(exclude=["number", "bool"]):
        shown[name] = frame[name].map(public)
    return shown


def read(content: dict[str, Any]) -> pd.DataFrame:
    """The data of a table from a notebook's output."""
    return pd.DataFrame(content["data"], columns=content["columns"])
