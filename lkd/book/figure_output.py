"""Plotly figures on the pages: an accessible HTML figure with its numbers as a table, drawn by `figures.js`."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from myst_nb.core.render import MimeData
from sphinx import addnodes

from lkd.book.data_table import csv_link, html_table
from lkd.book.page_warnings import report
from lkd.book.picture import svg

if TYPE_CHECKING:
    from myst_nb.core.render import NbElementRenderer

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
            _html(_begin(figure)),
            *_picture(renderer, figure),
            _html(_end(meta, name)),
            addnodes.only("", nodes.paragraph(text=meta.get("alt", "")), expr="not html"),
        ]


def figure_html(figure: dict[str, Any], name: str) -> str:
    """A `<figure>`: where it is drawn, what is drawn, its caption and its numbers; `name` is that of its CSV file."""
    return _begin(figure) + _end(figure.get("layout", {}).get("meta") or {}, name)


def _begin(figure: dict[str, Any]) -> str:
    layout = figure.get("layout", {})
    height = layout.get("height") or _DEFAULT_HEIGHT
    label = escape((layout.get("meta") or {}).get("alt", ""))
    return (
        '<figure class="lkd-figure">\n'
        f'<div class="lkd-plot" role="group" aria-label="{label}" style="min-height: {height:g}px"></div>\n'
        f'<script type="application/json">{_drawing(figure)}</script>\n'
    )


def _picture(renderer: NbElementRenderer, figure: dict[str, Any]) -> list[nodes.Element]:
    """The figure as a static picture, which browsers fetch where scripts are off; nothing if it cannot be drawn."""
    drawn = svg(figure)
    if drawn is None:
        return []
    images = renderer.render_image(MimeData("image/svg+xml", drawn))
    for image in images:
        image["alt"] = figure["layout"].get("meta", {}).get("alt", "")
    return [_html("<noscript>"), addnodes.only("", *images, expr="html"), _html("</noscript>")]


def _end(meta: dict[str, Any], name: str) -> str:
    caption = [f"<figcaption>{escape(meta['caption'])}</figcaption>"] if meta.get("caption") else []
    data = [_data(meta["table"], name)] if meta.get("table") else []
    return "\n".join([*caption, *data, "</figure>"])


def _html(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


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
