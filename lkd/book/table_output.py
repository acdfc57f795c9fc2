"""Tables on the pages: HTML that scrolls in its own box, and a link to the same data as CSV.

`TableRenderer` shows the `lkd.tables.Table` outputs of chapters; directives use the functions.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

import pandas as pd
from docutils import nodes
from sphinx import addnodes

from lkd.tables import MIME_TYPE, displayed

if TYPE_CHECKING:
    from myst_nb.core.render import MimeData, NbElementRenderer

Rows = Sequence[Sequence[Any]]

_RIGHT = ' class="lkd-number"'
_LONG_TEXT = 40
"""Characters above which a text is wrapped."""

_LONG_TABLE = 40
"""Rows above which a table is folded."""

_EXTENSION = "lkd.book"


class TableRenderer:
    """Renders the tables of notebooks (entry point of MyST-NB)."""

    mime_priority_overrides: ClassVar[list[tuple[str, str, int]]] = [("*", MIME_TYPE, 2)]

    @staticmethod
    def handle_mime(renderer: NbElementRenderer, data: MimeData, inline: bool) -> list[nodes.Element] | None:
        """The nodes of a table; None for other outputs and for books that do not use this extension."""
        env = renderer.renderer.sphinx_env
        if inline or data.mime_type != MIME_TYPE or env is None or _EXTENSION not in env.app.extensions:
            return None
        table = json.loads(data.content) if isinstance(data.content, str | bytes) else data.content
        name = f"{env.docname.rpartition('/')[2]}-{table['name']}.csv"
        return [
            nodes.raw("", table_html(table, name), format="html"),
            addnodes.only("", nodes.paragraph(text=table["caption"]), expr="not html"),
        ]


def table_html(table: dict[str, Any], name: str) -> str:
    """A `lkd.tables.Table` with its caption and a link to its CSV file `name`; a long table is folded.

    Its anchor on the page is `#table-` followed by the table's name.
    """
    columns, rows = table["columns"], table["data"]
    seen = displayed(pd.DataFrame(rows, columns=columns, dtype=object), table.get("shown", columns), table["digits"])
    shown = html_table(list(seen.columns), seen.to_numpy().tolist(), table["digits"])
    if len(rows) > _LONG_TABLE:
        shown = f'<details class="lkd-data"><summary>{len(rows)} rows</summary>{shown}</details>'
    return captioned(table["caption"], shown + csv_link(columns, rows, name), f"table-{table['name']}")


def captioned(caption: str, content: str, anchor: str = "") -> str:
    """A `<figure>` of the HTML `content` with a caption above it."""
    id = f' id="{escape(anchor)}"' if anchor else ""
    return f'<figure class="lkd-table"{id}><figcaption>{escape(caption)}</figcaption>{content}</figure>'


def html_table(columns: Sequence[str], rows: Rows, digits: int | None = None) -> str:
    """A table of data in a scroll box; numbers are right-aligned.

    Args:
        columns: headings.
        rows: values.
        digits: decimal places of floats; by default five significant digits.
    """
    head = (_head(column, [row[place] for row in rows]) for place, column in enumerate(columns))
    return scroll_box(head, (f"<tr>{''.join(_cell(value, digits) for value in row)}</tr>" for row in rows))


def scroll_box(head: Iterable[str], rows: Iterable[str], classes: str = "") -> str:
    """A table in a box that scrolls on its own and takes the keyboard's focus.

    Args:
        head: the `<th>` elements.
        rows: the `<tr>` elements.
        classes: CSS classes besides `lkd-scroll`.
    """
    body = "\n".join(rows)
    table = f"<table>\n<thead><tr>{''.join(head)}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    return f'<div class="{f"lkd-scroll {classes}".strip()}" tabindex="0">{table}</div>'


def csv_link(columns: Sequence[str], rows: Rows, name: str) -> str:
    """A link that downloads the table as the file `name`, in full precision."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    address = f"data:text/csv;charset=utf-8,{quote(text.getvalue())}"
    return f'<a class="lkd-download" download="{escape(name)}" href="{address}">Download as CSV</a>'


def number(value: float) -> str:
    """A number with five significant digits, with an exponent only where it is very small or large.

    Example:
        >>> number(0.873412), number(120000.0), number(3e-05)
        ('0.87341', '120000', '3e-05')
    """
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.5g}"


def _head(column: str, values: Sequence[Any]) -> str:
    """A column heading, aligned with the values."""
    numeric = all(_is_missing(value) or _is_number(value) for value in values)
    return f'<th scope="col"{_RIGHT if numeric else ""}>{escape(str(column))}</th>'


def _cell(value: Any, digits: int | None) -> str:
    """A cell; a dash for a missing value."""
    if _is_missing(value):
        return f"<td{_RIGHT}>–</td>"
    if _is_number(value):
        decimals = digits is not None and isinstance(value, float)
        return f"<td{_RIGHT}>{f'{value:,.{digits}f}' if decimals else number(value)}</td>"
    long = ' class="lkd-long"' if len(str(value)) > _LONG_TEXT else ""
    return f"<td{long}>{escape(str(value))}</td>"


def _is_missing(value: Any) -> bool:
    """Whether the value is None or NaN."""
    return value is None or value != value


def _is_number(value: Any) -> bool:
    """Whether the value is a number and not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)
