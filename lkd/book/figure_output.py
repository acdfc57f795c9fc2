"""Plotly figures on the pages: an accessible HTML figure with its numbers and its code, drawn by `figures.js`.

Without scripts the page shows the caption and the table.
"""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx import addnodes

from lkd.book.figure_code import code_of_figure
from lkd.book.page_warnings import report
from lkd.book.table_output import csv_link, html_table
from lkd.runs.public_names import public

if TYPE_CHECKING:
    from myst_nb.core.render import MimeData, NbElementRenderer

MIME_TYPE = "application/vnd.plotly.v1+json"
_DEFAULT_HEIGHT = 450
_EXTENSION = "lkd.book"


class PlotlyRenderer:
    """Renders the Plotly outputs of notebooks (entry point of MyST-NB).

    A figure carries its texts and numbers in `layout.meta`: `alt`, a sentence that describes it; `caption`; and
    `table`, its numbers as `{"columns": [...], "rows": [[...], ...]}`.
    """

    mime_priority_overrides: ClassVar[list[tuple[str, str, int]]] = [("*", MIME_TYPE, 1)]

    @staticmethod
    def handle_mime(renderer: NbElementRenderer, data: MimeData, inline: bool) -> list[nodes.Element] | None:
        """The nodes of a Plotly output; None for other outputs and for books that do not use this extension."""
        env = renderer.renderer.sphinx_env
        if inline or data.mime_type != MIME_TYPE or env is None or _EXTENSION not in env.app.extensions:
            return None
        figure = json.loads(data.content) if isinstance(data.content, str | bytes) else data.content
        meta = figure.get("layout", {}).get("meta") or {}
        for field in ("alt", "table"):
            if not meta.get(field):
                report(env, f"A figure has no {field}: set layout.meta[{field!r}].", "figure", data.line)
        name = f"{env.docname.rpartition('/')[2]}-{data.cell_index}-{data.output_index}"
        return [
            nodes.raw("", figure_html(figure, name, _code(renderer, data)), format="html"),
            addnodes.only("", nodes.paragraph(text=meta.get("alt", "")), expr="not html"),
        ]


def figure_html(figure: dict[str, Any], name: str, code: str = "") -> str:
    """A `<figure>` with a target for Plotly, the JSON to draw, the caption, the numbers and the code.

    Args:
        figure: as Plotly's JSON.
        name: of the files to save, without their endings.
        code: the Python code that draws it.
    """
    layout = figure.get("layout", {})
    meta = layout.get("meta") or {}
    height = layout.get("height") or _DEFAULT_HEIGHT
    parts = [
        f'<figure class="lkd-figure" data-name="{escape(name)}">',
        f'<div class="lkd-plot" role="group" aria-label="{escape(meta.get("alt", ""))}" '
        f'style="min-height: {height:g}px"></div>',
        f'<script type="application/json">{_drawing(figure)}</script>',
        *([f"<figcaption>{escape(meta['caption'])}</figcaption>"] if meta.get("caption") else []),
        *([_data(meta["table"], name)] if meta.get("table") else []),
        *([_folded_code(code)] if code else []),
        "</figure>",
    ]
    return "\n".join(parts)


def script_json(content: Any) -> str:
    """JSON that is safe within a `<script>`.

    Example:
        >>> script_json(["</script>"])
        '["\\\\u003c/script>"]'
    """
    return json.dumps(content, separators=(",", ":")).replace("<", r"\u003c")


def _code(renderer: NbElementRenderer, data: MimeData) -> str:
    """The code of a figure of a notebook, without folders of this machine."""
    client = renderer.renderer.md_options.get("nb_client")
    if client is None or data.cell_index is None:
        return ""
    return public(code_of_figure(client.notebook.cells, data.cell_index))


def _drawing(figure: dict[str, Any]) -> str:
    """The JSON that Plotly draws, without the table, which the page shows as HTML."""
    layout = figure.get("layout", {})
    meta = {key: value for key, value in (layout.get("meta") or {}).items() if key != "table"}
    return script_json({"data": figure.get("data", []), "layout": {**layout, "meta": meta}})


def _data(table: dict[str, Any], name: str) -> str:
    """The numbers of a figure, folded."""
    columns, rows = table["columns"], table["rows"]
    shown = html_table(columns, rows) + csv_link(columns, rows, f"{name}.csv")
    return f'<details class="lkd-data"><summary>Data of this figure</summary>{shown}</details>'


def _folded_code(code: str) -> str:
    """The code of a figure, folded; the theme adds a button that copies it."""
    shown = highlight(code, PythonLexer(), HtmlFormatter())
    return f'<details class="lkd-code"><summary>Code of this figure</summary>{shown}</details>'
