"""The directive `{comparison}`: all published runs side by side; `comparison.js` filters and draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import urlencode

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lkd.book.comparison_cells import (
    CURVES,
    CURVES_CODE,
    ERROR,
    GAINS,
    LEAD,
    MEASURES,
    OVER_KD,
    SHARE,
    SPEED,
    Cell,
    Measure,
    profile_cells,
)
from lkd.book.figure_output import figure_html, script_json
from lkd.book.sources import note_sources
from lkd.book.table_output import captioned, csv_link, html_table, table_html

_CLASS = "lkd-comparison"
_NAMES = ("profile", "student", "teacher", "objective")
_QUANTITY = "quantity"
_MEANS = "means over runs"
PRESETS = {
    LEAD: "Which teacher is ahead?",
    OVER_KD: "KD against NKD",
    SPEED: "Who learns fastest?",
    SHARE: "Who sees farthest?",
    ERROR: "Who is robust?",
}
"""Questions that one quantity answers."""
_BEST_IS_LOWEST = (ERROR,)
_NOTHING = "No runs are published that could be compared."


class Comparison(SphinxDirective):
    """Published runs of all profiles, with a form to filter them."""

    def run(self) -> list[nodes.Node]:
        """The form, the figures, and tables of the same numbers; a sentence if nothing is published."""
        from lkd.runs.published import profiles, published

        note_sources(self.env)
        found = {profile: profile_cells(profile, published(profile)) for profile in profiles()}
        if not any(found.values()):
            return [nodes.paragraph(text=_NOTHING)]
        return [nodes.container("", nodes.raw("", comparison_html(found), format="html"), classes=[_CLASS])]


def add_script(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load `comparison.js` on a page with a comparison (handles `html-page-context`)."""
    if doctree is not None and any(_CLASS in box["classes"] for box in doctree.findall(nodes.container)):
        app.add_js_file("comparison.js", loading_method="defer")


def comparison_html(found: Mapping[str, Sequence[Cell]]) -> str:
    """The form, the figures that follow it, and tables of all cells; `found` are the cells by profile."""
    import pandas as pd

    from lkd.figures import short_names, styles

    cells = [cell for some in found.values() for cell in some]
    measures = [measure for measure in MEASURES if any(measure.column in cell for cell in cells)]
    drawn = {
        "cells": cells,
        "measures": {measure.column: (measure.title, measure.unit) for measure in measures},
        "styles": styles(pd.Series([cell["teacher"] for cell in cells])),
        "names": {name: short_names(cell[name] for cell in cells) for name in ("student", "teacher")},
    }
    live = [
        _presets(found, measures),
        _choice(cells, measures),
        f'<script type="application/json">{script_json(drawn)}</script>',
        *(
            _figure(
                each.column,
                f"{_sentence_case(each.title)}: {_MEANS}, with 95 % intervals if there are several.",
                each.code,
            )
            for each in measures
        ),
        _figure(
            CURVES, f"Accuracy on up to 500 images of the validation split after each epoch: {_MEANS}.", CURVES_CODE
        ),
    ]
    return "\n".join([*_missing(found), "<div hidden>", *live, "</div>", _table(cells, measures), _curve_table(cells)])


def _missing(found: Mapping[str, Sequence[Cell]]) -> list[str]:
    """Sentences on missing runs and measurements of each profile."""
    sentences = []
    for profile, cells in found.items():
        missing = [measure.title for measure in MEASURES if not any(measure.column in cell for cell in cells)]
        if not cells:
            sentences.append(f"Profile {profile} is not shown: not all of these runs are published.")
        elif missing:
            sentences.append(f"Not measured on the published runs of profile {profile}: {', '.join(missing)}.")
    return [f"<p>{escape(sentence)}</p>" for sentence in sentences]


def _presets(found: Mapping[str, Sequence[Cell]], measures: Sequence[Measure]) -> str:
    """Links that select one quantity of the profile with most runs, each with its extremes."""

    def runs(profile: str) -> int:
        return sum(cell[GAINS[0].column]["n"] for cell in found[profile] if GAINS[0].column in cell)

    profile = max(found, key=runs)
    items = []
    for measure, question in PRESETS.items():
        rows = [cell for cell in found[profile] if measure in measures and measure.column in cell]
        if rows:
            link = urlencode({_QUANTITY: measure.column, "profile": profile})
            items.append(f'<li><a href="#{escape(link)}">{question}</a> {_extremes(measure, rows)}</li>')
    return f'<ul class="lkd-presets">{"".join(items)}</ul>' if items else ""


def _extremes(measure: Measure, cells: Sequence[Cell]) -> str:
    """The cells with the best and the worst mean, in words."""
    from lkd.figures import as_written, short_names

    short = {name: short_names(cell[name] for cell in cells) for name in ("student", "teacher")}

    def words(cell: Cell) -> str:
        names = [*(short[name][cell[name]] for name in short), as_written(cell["objective"])]
        return f"{cell[measure.column]['mean']:.2f} {measure.unit} ({escape(', '.join(names))})"

    ordered = sorted(cells, key=lambda cell: cell[measure.column]["mean"], reverse=measure not in _BEST_IS_LOWEST)
    return f"{_sentence_case(measure.title)}: from {words(ordered[0])} to {words(ordered[-1])}."


def _sentence_case(title: str) -> str:
    return title[0].upper() + title[1:]


def _choice(cells: Sequence[Cell], measures: Sequence[Measure]) -> str:
    """A form with a checkbox for each quantity, profile, student, teacher and objective, and a status line."""
    from lkd.figures import ALONE, as_written

    quantities = {measure.column: measure.title for measure in measures} | {CURVES: "learning curves"}
    fields = [_fieldset(_QUANTITY, "Quantities", quantities)]
    for name in _NAMES:
        entries = dict.fromkeys(cell[name] for cell in cells if name != "objective" or cell["teacher"] != ALONE)
        fields.append(_fieldset(name, f"{name.capitalize()}s", {entry: as_written(entry) for entry in entries}))
    return (
        f'<form class="lkd-choice" autocomplete="off">{"".join(fields)}<button type="reset">Show all</button></form>\n'
        '<p role="status"></p>'
    )


def _fieldset(name: str, legend: str, entries: Mapping[str, str]) -> str:
    """A checkbox for each entry; `entries` are labels by value."""
    boxes = [
        f'<label><input type="checkbox" name="{name}" value="{escape(value)}" checked> {escape(label)}</label>'
        for value, label in entries.items()
    ]
    return f"<fieldset><legend>{legend}</legend>{''.join(boxes)}</fieldset>"


def _figure(shows: str, caption: str, code: str) -> str:
    """An empty figure, which the script fills with the selected cells, and the code that draws them elsewhere."""
    return figure_html({"layout": {"meta": {"shows": shows, "caption": caption}}}, shows, code)


def _table(cells: Sequence[Cell], measures: Sequence[Measure]) -> str:
    """A table with a row per cell; its CSV has a row per cell and measure."""
    rows = [[*_names(cell), *(_shown(cell.get(measure.column)) for measure in measures)] for cell in cells]
    tidy = [
        [*_names(cell), measure.title, measure.unit, *cell[measure.column].values()]
        for cell in cells
        for measure in measures
        if measure.column in cell
    ]
    caption = (
        f"{_MEANS.capitalize()}, in brackets their 95 % intervals if there are several; n is the number of runs. "
        "The CSV file has all rows, for any selection."
    )
    shown = html_table([*_NAMES, *(measure.label for measure in measures)], rows)
    link = csv_link([*_NAMES, "measure", "unit", "mean", "95 % low", "95 % high", "runs"], tidy, "comparison.csv")
    return captioned(caption, shown + link)


def _curve_table(cells: Sequence[Cell]) -> str:
    """A table with a row per cell and a column per epoch."""
    epochs = sorted({epoch for cell in cells for epoch in cell["curve"]["epoch"]})
    curves = [dict(zip(*cell["curve"].values(), strict=True)) for cell in cells]
    rows = [[*_names(cell), *map(curve.get, epochs)] for cell, curve in zip(cells, curves, strict=True)]
    caption = f"Learning curves: validation top-1 in per cent after each epoch, {_MEANS}."
    columns = [*_NAMES, *map(str, epochs)]
    table = {"name": "curves", "columns": columns, "data": rows, "digits": 1, "caption": caption}
    return table_html(table, "learning-curves.csv")


def _names(cell: Cell) -> list[str]:
    return [cell[name] for name in _NAMES]


def _shown(spread: Mapping[str, float | None] | None) -> str:
    """A mean with its interval and the number of runs; a dash if there is none."""
    if spread is None:
        return "–"
    interval = "" if spread["low"] is None else f" [{spread['low']:.2f}, {spread['high']:.2f}]"
    return f"{spread['mean']:.2f}{interval}, n = {spread['n']}"
