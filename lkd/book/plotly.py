"""Plotly figures on the pages: an accessible HTML figure with its numbers as a table, drawn by `figures.js`."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from sphinx import addnodes

from lkd.book.data_table import csv_link, html_table
from lkd.book.faults import report

if TYPE_CHECKING:
    from myst_nb.core.render import MimeData, NbElementRenderer

MIME_TYPE = "application/vnd.plotly.v1+json"
_DEFAULT_HEIGHT = 450
_EXTENSION = "lkd.book"


class PlotlyRenderer:
    """Renders the Plotly outputs of notebooks (entry point of MyST-NB).

    A figure carries its words and numbers in `layout.meta`: `alt`, what it shows in a sentence;
    `caption`; and `table`, its numbers as `{"columns": [...], "rows": [[...], ...]}`.
    """

    mime_priority_overrides: ClassVar[list[tuple[str, str, int]]] = [("*", MIME_TYPE, 1)]

    @staticmethod
    def handle_mime(renderer: NbElementRenderer, data: MimeData, inline: bool) -> list[nodes.Element] | None:
        """The nodes of a Plotly output; None for what is not ours: other outputs, and other projects' books."""
        env = renderer.renderer.sphinx_env
        if inline or data.mime_type != MIME_TYPE or env is None or _EXTENSION not in env.app.extensions:
            return None
        figure = json.loads(data.content) if isinstance(data.content, str | bytes) else data.content
        meta = figure.get("layout", {}).get("meta") or {}
        for word in ("alt", "table"):
            if not meta.get(word):
                report(env, f"A figure has no {word}: set layout.meta[{word!r}].", "figure", data.line)
        name = f"{env.docname.rpartition('/')[2]}-{data.cell_index}-{data.output_index}"
        return [
            nodes.raw("", figure_html(figure, name), format="html"),
            addnodes.only("", nodes.paragraph(text=meta.get("alt", "")), expr="not html"),
        ]


def figure_html(figure: dict[str, Any], name: str) -> str:
    """A `<figure>`: where it is drawn, what is drawn, its caption and its numbers; `name` is that of its CSV file."""
    layout = figure.get("layout", {})
    meta = layout.get("meta") or {}
    height = layout.get("height") or _DEFAULT_HEIGHT
    label = escape(meta.get("alt", ""))
    parts = [
        f'<div class="lkd-plot" role="group" aria-label="{label}" style="min-height: {height:g}px"></div>',
        f'<script type="application/json">{_drawing(figure)}</script>',
    ]
    if meta.get("caption"):
        parts.append(f"<figcaption>{escape(meta['caption'])}</figcaption>")
    if meta.get("table"):
        parts.append(_data(meta["table"], name))
    return "\n".join(['<figure class="lkd-figure">', *parts, "</figure>"])


def script_json(content: Any) -> str:
    """JSON that is safe within a `<script>`.

    Example:
        >>> script_json(["</script>"])
        '["\\\\u003c/script>"]'
    """
    return json.dumps(content, separators=(",", ":")).replace("<", r"\u003c")


def _drawing(figure: dict[str, Any]) -> str:
    """The JSON of what Plotly draws; the table is on the page once already."""
    layout = figure.get("layout", {})
    meta = {key: value for key, value in (layout.get("meta") or {}).items() if key != "table"}
    return script_json({"data": figure.get("data", []), "layout": {**layout, "meta": meta}})


def _data(table: dict[str, Any], name: str) -> str:
    """The numbers of a figure, folded."""
    columns, rows = table["columns"], table["rows"]
    return "\n".join(
        [
            '<details class="lkd-data">',
            "<summary>Data of this figure</summary>",
            f'<div class="lkd-scroll" tabindex="0">{html_table(columns, rows)}</div>',
            csv_link(columns, rows, f"{name}.csv"),
            "</details>",
        ]
    )
