"""Tables on the pages: what a chapter shows as `lkd.tables.Table`, with a link to its CSV."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from sphinx import addnodes

from lkd.book.data_table import csv_link, html_table
from lkd.tables import MIME_TYPE

if TYPE_CHECKING:
    from myst_nb.core.render import MimeData, NbElementRenderer

_LONG = 40
_EXTENSION = "lkd.book"


class TableRenderer:
    """Renders the tables of notebooks (entry point of MyST-NB)."""

    mime_priority_overrides: ClassVar[list[tuple[str, str, int]]] = [("*", MIME_TYPE, 2)]

    @staticmethod
    def handle_mime(renderer: NbElementRenderer, data: MimeData, inline: bool) -> list[nodes.Element] | None:
        """The nodes of a table; None for what is not ours: other outputs, and other projects' books."""
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
    """The table with its caption and a link to its CSV file called `name`; a long one is folded.

    Its address on the page is `#table-`, with the name that the chapter gives it.
    """
    columns, rows = table["columns"], table["data"]
    scroll = f'<div class="lkd-scroll" tabindex="0">{html_table(columns, rows, table["digits"])}</div>'
    if len(rows) > _LONG:
        scroll = f'<details class="lkd-data"><summary>{len(rows)} rows</summary>{scroll}</details>'
    caption = f"<figcaption>{escape(table['caption'])}</figcaption>"
    link = csv_link(columns, rows, name)
    return f'<figure class="lkd-table" id="table-{escape(table["name"])}">{caption}{scroll}{link}</figure>'
