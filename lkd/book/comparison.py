"""The directive `{comparison}`: all published runs side by side; `comparison.js` filters and draws them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lkd.book.figure_output import figure_html, script_json
from lkd.book.sources import note_sources
from lkd.book.table_output import captioned, csv_link, html_table, table_html

if TYPE_CHECKING:
    import pandas as pd

    from lkd.runs.store import Store
    from lkd.study import Results

Cell = dict[str, Any]
_CLASS = "lkd-comparison"
_NAMES = ("profile", "student", "teacher", "objective")
_QUANTITY = "quantity"
_SPREAD = ("mean", "low", "high", "n")
_MEANS = "means over runs"
_PROFILE = 'profile = "small"  # or another one of this page'
_CODE = {
    "direct_gain": f"""\
from lkd import figures
from lkd.study import distillation

{_PROFILE}
figures.gains(distillation(profile).published(profile).gains)
""",
    "distilled_top1": f"""\
from lkd import figures
from lkd.figures import Axis
from lkd.study import distillation

{_PROFILE}
gains = distillation(profile).published(profile).gains
top1 = Axis("distilled_top1", "test top-1", "%")
figures.intervals(gains, top1, of="teacher", rows="student", columns="objective")
""",
    "lead": f"""\
from lkd.study import distillation, effect

{_PROFILE}
gains = distillation(profile).published(profile).gains
for (student, objective), group in gains.groupby(["student", "objective"]):
    for teacher in group.teacher.unique():
        others = [other for other in group.teacher.unique() if other != teacher]
        lead = effect(group, "direct_gain", {{"teacher": [teacher]}}, {{"teacher": others}})
        print(student, objective, teacher, lead.mean, lead.interval())
""",
    "over_kd": f"""\
from lkd.study import distillation, effect

{_PROFILE}
gains = distillation(profile).published(profile).gains
for (student, teacher), group in gains.groupby(["student", "teacher"]):
    lead = effect(group, "direct_gain", {{"objective": ["nkd"]}}, {{"objective": ["kd"]}})
    print(student, teacher, lead.mean, lead.interval())
""",
    "area_gain": f"""\
from lkd import figures
from lkd.figures import Axis
from lkd.study import distillation, learning_speed

{_PROFILE}
speed = learning_speed(distillation(profile).published(profile))
area = Axis("area_gain", "lead over the epochs", "points")
figures.intervals(speed, area, of="teacher", rows="student", columns="objective")
""",
    "share": f"""\
from lkd import figures
from lkd.figures import Axis
from lkd.study import erf_table, trait_study

{_PROFILE}
fields = erf_table(trait_study(profile).published(profile))
share = Axis("share", "effective receptive field", "% of the area")
figures.intervals(fields, share, of="teacher", rows="student", columns="objective")
""",
    "error": f"""\
from lkd import figures
from lkd.figures import Axis
from lkd.study import robustness_table, trait_study

{_PROFILE}
errors = robustness_table(trait_study(profile).published(profile))
error = Axis("error", "error on corrupted images", "%")
figures.intervals(errors, error, of="teacher", rows="student", columns="objective")
""",
    "curve": f"""\
from lkd import figures
from lkd.study import distillation

{_PROFILE}
figures.learning_curves(distillation(profile).published(profile).curves)
""",
}
"""The code that draws or prints the means of each figure of the page for one profile, by the quantity."""
_NOTHING = "No runs are published that could be compared."


class Measure(NamedTuple):
    """A quantity to compare: its columns for distilled runs and for their baselines, title and unit."""

    column: str
    baseline: str | None
    title: str
    unit: str

    @property
    def label(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})"


GAINS = (
    Measure("direct_gain", None, "direct gain", "points"),
    Measure("distilled_top1", "student_top1", "test top-1", "%"),
)
LEAD = Measure("lead", None, "lead over the other teachers", "points")
OVER_KD = Measure("over_kd", None, "lead of NKD over KD", "points")
SPEED = Measure("area_gain", None, "lead over the epochs", "points")
SHARE = Measure("share", "alone_share", "effective receptive field", "% of the area")
ERROR = Measure("error", "alone_error", "error on corrupted images", "%")
MEASURES = (*GAINS, LEAD, OVER_KD, SPEED, SHARE, ERROR)
PRESETS = {
    LEAD: "Which teacher is ahead?",
    OVER_KD: "KD against NKD",
    SPEED: "Who learns fastest?",
    SHARE: "Who sees farthest?",
    ERROR: "Who is robust?",
}
"""Questions that one quantity answers."""
_BEST_IS_LOWEST = (ERROR,)
_CURVES = "curve"


class Comparison(SphinxDirective):
    """Published runs of all profiles, with a form to filter them."""

    def run(self) -> list[nodes.Node]:
        """The form, the figures, and tables of the same numbers; a sentence if nothing is published."""
        from lkd.runs.published import profiles, published

        note_sources(self.env)
        found = {profile: cells(profile, published(profile)) for profile in profiles()}
        if not any(found.values()):
            return [nodes.paragraph(text=_NOTHING)]
        return [nodes.container("", nodes.raw("", comparison_html(found), format="html"), classes=[_CLASS])]


def add_script(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load `comparison.js` on a page with a comparison (handles `html-page-context`)."""
    if doctree is not None and any(_CLASS in box["classes"] for box in doctree.findall(nodes.container)):
        app.add_js_file("comparison.js", loading_method="defer")


def cells(profile: str, store: Store) -> list[Cell]:
    """Measures and learning curve of each combination of student, teacher and objective, and of each baseline.

    Args:
        profile: the scale.
        store: where its runs are found.

    Returns:
        For each cell its names; by the column of each available `Measure`, mean, 95 % interval, and number of runs;
        and as `curve` the mean accuracy by epoch. Empty if a run is missing in the store.

    Example:
        >>> import tempfile
        >>> from lkd.book.comparison import cells
        >>> from lkd.runs.store import Store
        >>> cells("small", Store(tempfile.mkdtemp()))
        []
    """
    from lkd.study import distillation

    results = distillation(profile).find(store)
    return cells_of(profile, results, _traits(profile, store)) if results else []


def cells_of(profile: str, results: Results, traits: Iterable[tuple[Measure, pd.DataFrame]] = ()) -> list[Cell]:
    """The cells of a study's results and of its trait tables: see `cells`."""
    from lkd.study import by_cell, learning_speed
    from lkd.study.results import CELL

    tables = [*((measure, results.gains) for measure in GAINS), (SPEED, learning_speed(results)), *traits]
    spreads = {measure: by_cell(_with_baselines(table, measure), measure.column) for measure, table in tables}
    found: dict[tuple[str, ...], Cell] = {}
    for measure, means in {**spreads, LEAD: _leads(results.gains), OVER_KD: _leads_over_kd(results.gains)}.items():
        for row in means.astype(object).where(means.notna(), None).to_dict("records"):
            names = tuple(row[name] for name in CELL)
            about = dict(zip(CELL, names, strict=True))
            cell = found.setdefault(names, {"profile": profile, **about, _CURVES: {"epoch": [], "val_top1": []}})
            cell[measure.column] = {name: row[name] for name in _SPREAD}
    for names, curve in _curves(results).items():
        found[names][_CURVES] = curve
    return list(found.values())


def _leads(gains: pd.DataFrame) -> pd.DataFrame:
    """Gain of each teacher's students minus the mean over the students of the other teachers, by cell."""
    rows = []
    for (student, objective), group in gains.groupby(["student", "objective"], sort=False):
        for teacher in group.teacher.unique():
            others = [other for other in group.teacher.unique() if other != teacher]
            if others:
                names = {"student": student, "teacher": teacher, "objective": objective}
                rows.append({**names, **_difference(group, {"teacher": [teacher]}, {"teacher": others})})
    return _differences(rows)


def _leads_over_kd(gains: pd.DataFrame) -> pd.DataFrame:
    """Gain by NKD minus gain by KD with the same teachers and seeds, in the cells of NKD."""
    rows = []
    for (student, teacher), group in gains.groupby(["student", "teacher"], sort=False):
        if {"kd", "nkd"} <= set(group.objective):
            names = {"student": student, "teacher": teacher, "objective": "nkd"}
            rows.append({**names, **_difference(group, {"objective": ["nkd"]}, {"objective": ["kd"]})})
    return _differences(rows)


def _difference(gains: pd.DataFrame, high: Mapping[str, list[str]], low: Mapping[str, list[str]]) -> dict[str, float]:
    """Mean difference of gains with its interval, and the number of runs with `high`."""
    from lkd.study import effect

    ((column, entries),) = high.items()
    seen = effect(gains, GAINS[0].column, high, low)
    return dict(zip(_SPREAD, (seen.mean, *seen.interval(), int(gains[column].isin(entries).sum())), strict=True))


def _differences(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    from lkd.study.results import CELL

    return pd.DataFrame(rows, columns=[*CELL, *_SPREAD])


def _traits(profile: str, store: Store) -> list[tuple[Measure, pd.DataFrame]]:
    """Trait tables of a profile's runs, if they were measured."""
    from lkd.study import erf_table, robustness_table, trait_study

    results, found = trait_study(profile).find(store), []
    for measure, table in ((SHARE, erf_table), (ERROR, robustness_table)):
        try:
            if results:
                found.append((measure, table(results)))
        except FileNotFoundError:
            continue
    return found


def _with_baselines(table: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """A measure of the distilled runs and, if the measure has them, of the baselines."""
    import pandas as pd

    from lkd.figures import ALONE
    from lkd.study.compare import REPLICATES
    from lkd.study.results import CELL

    distilled = table[[*CELL, *REPLICATES, measure.column]]
    if measure.baseline is None:
        return distilled
    once = table.drop_duplicates(["student", "seed"])
    baseline = {"teacher": ALONE, "objective": "label", "teacher_seed": None, measure.column: once[measure.baseline]}
    alone = once.assign(**baseline)
    return pd.concat([distilled, alone[distilled.columns]], ignore_index=True)


def _curves(results: Results) -> dict[tuple[str, ...], dict[str, list[float]]]:
    """Mean accuracy by epoch of each cell."""
    from lkd.figures import ALONE
    from lkd.study.results import CELL

    curves = results.curves
    means = curves.assign(teacher=curves.teacher.fillna(ALONE)).groupby([*CELL, "epoch"], sort=False).val_top1.mean()
    return {
        names: {"epoch": curve.index.get_level_values("epoch").tolist(), "val_top1": curve.tolist()}
        for names, curve in means.groupby(CELL, sort=False)
    }


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
            _figure(each.column, f"{_sentence_case(each.title)}: {_MEANS}, with 95 % intervals if there are several.")
            for each in measures
        ),
        _figure(_CURVES, f"Accuracy on up to 500 images of the validation split after each epoch: {_MEANS}."),
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

    quantities = {measure.column: measure.title for measure in measures} | {_CURVES: "learning curves"}
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


def _figure(shows: str, caption: str) -> str:
    """An empty figure, which the script fills with the selected cells, and the code that draws them elsewhere."""
    return figure_html({"layout": {"meta": {"shows": shows, "caption": caption}}}, shows, _CODE[shows])


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
