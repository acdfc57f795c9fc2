"""The directive `{ledger}`: all claims of the papers, with their verdicts at each scale that was run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lkd.book.executed import read_copy
from lkd.book.table_output import csv_link, scroll_box

if TYPE_CHECKING:
    from lkd.paper.claims import Claim
    from lkd.paper.verdicts import Verdict
    from lkd.runs.store import Store

_MARK, _SETS = "lkd_ledger", "lkd_run_sets"


class Ledger(SphinxDirective):
    """A table of all claims."""

    def run(self) -> list[nodes.Node]:
        """A table of verdicts as HTML, with its CSV; `ledger.js` adds filters."""
        self.env.metadata[self.env.docname][_MARK] = True
        return [nodes.raw("", ledger_html(judged(self)), format="html")]


def load_filters(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load `ledger.js` on a page with a ledger (handles `html-page-context`)."""
    if _MARK in app.env.metadata.get(pagename, {}):
        app.add_js_file("ledger.js", loading_method="defer")


def run_sets(directive: SphinxDirective) -> dict[str, tuple[str, Store]]:
    """Profile and store by name of the set of runs, on this machine and published; found once per page."""
    from lkd.profiles import profile_name
    from lkd.runs.published import profiles, published
    from lkd.runs.store import Store

    env = directive.env
    if _SETS in env.temp_data:
        return env.temp_data[_SETS]
    sources = sorted((Path(env.srcdir) / "notebooks").glob("*.ipynb"))
    copies = [read_copy(Path(env.config.lkd_chapters), path.stem) for path in sources]
    here = {copy.profile for copy in copies if copy.profile and not copy.from_records} - {"smoke"}
    found = {f"{profile_name(each)}, here": (each, Store()) for each in sorted(filter(_exists, here))}
    found |= {f"{name}, published": (name, published(name)) for name in profiles()}
    env.temp_data[_SETS] = found or {"not run": ("small", Store())}
    return env.temp_data[_SETS]


def judged(directive: SphinxDirective) -> dict[str, list[Verdict]]:
    """Verdicts by name of the set of runs; computed once per page."""
    from lkd.paper.verdicts import ledger

    env = directive.env
    env.note_reread()
    if _MARK not in env.temp_data:
        env.temp_data[_MARK] = {title: ledger(*each) for title, each in run_sets(directive).items()}
    return env.temp_data[_MARK]


def _exists(profile: str) -> bool:
    """Whether a profile is one of lkd's or an existing file."""
    from lkd.profiles import PROFILES

    return profile in PROFILES or Path(profile).is_file()


def ledger_html(columns: Mapping[str, Sequence[Verdict]]) -> str:
    """A table with a row per claim: text, place, the papers' difference, and the verdict for each set of runs.

    `data-choice` names a filter by the `data-value` of a column's cells; `data-column` heads a cell on phones.
    """
    from lkd.paper.papers_scale import reported
    from lkd.paper.verdicts import table_of

    titles = [escape(title) for title in columns]
    head = [
        '<th scope="col">Claim</th><th scope="col" data-choice="Paper">Place</th>',
        '<th scope="col" data-choice="Family">Family</th><th scope="col">Papers\' scale</th>',
        *(f'<th scope="col" data-choice="Verdict ({title})">{title}</th>' for title in titles),
    ]
    claims = sorted(zip(*columns.values(), strict=True), key=_order)
    rows = [_row(titles, row) for row in claims]
    tables = [table_of(verdicts).assign(runs=title) for title, verdicts in columns.items()]
    for table in tables:
        table["papers' scale"] = [seen.difference if (seen := reported().get(name)) else math.nan for name in table.id]
    names = list(tables[0].columns)
    values = [row for table in tables for row in table.astype(object).to_numpy().tolist()]
    return scroll_box(head, rows, "lkd-cards lkd-ledger") + csv_link(names, values, "claims.csv")


def chapter_of(claim: Claim) -> str:
    """The name of the chapter that tests a claim."""
    from lkd.study.chapters import CHAPTERS

    return next(name for name, chapter in CHAPTERS.items() if claim.study in chapter.studies)


def _reported_html(claim: Claim) -> str:
    """The difference that the papers or their authors' logs report, with its source."""
    from lkd.paper.papers_scale import reported

    if not (seen := reported().get(claim.id)):
        return "no numbers known"
    return f"{seen.difference:+.2f} {escape(claim.unit)}<br>{escape(seen.source)}; single runs"


def _parting(verdict: Verdict) -> str:
    """A line for a decided claim that the papers' own difference would decide otherwise."""
    from lkd.paper.papers_scale import reads_as, reported

    seen = reported().get(verdict.claim.id)
    if seen is None or verdict.word in ("not decided", "not run"):
        return ""
    word = reads_as(verdict.claim, seen.difference)
    return "" if word == verdict.word else f"<br>unlike the papers' scale ({word})"


def verdict_html(verdict: Verdict) -> str:
    """The verdict, the difference with its interval, and the p-value."""
    word = f'<span class="lkd-verdict lkd-{verdict.word.replace(" ", "-")}">{verdict.word}</span>'
    if verdict.found is None:
        return word
    low, high = verdict.found.interval()
    interval = f" [{low:.2f}, {high:.2f}]" if low == low else ", not repeated"
    lines = [word, f"{verdict.found.mean:+.2f}{interval} {escape(verdict.claim.unit)}"]
    if verdict.trained_once:
        lines.append("teachers trained once")
    elif verdict.p == verdict.p:
        lines.append(f"p = {verdict.p:.2g}, {'confirmatory' if verdict.confirmatory else 'exploratory'}")
    return "<br>".join(lines)


def _order(verdicts: Sequence[Verdict]) -> tuple[bool, bool, bool]:
    """Decided claims before others, confirmatory before exploratory decisions, primary before secondary claims."""
    decided = [verdict for verdict in verdicts if verdict.word not in ("not decided", "not run")]
    confirmed = any(verdict.confirmatory for verdict in decided)
    return not decided, not confirmed, verdicts[0].claim.family != "primary"


def _row(titles: Sequence[str], verdicts: Sequence[Verdict]) -> str:
    claim = verdicts[0].claim
    paper = escape(claim.paper)
    cells = [
        f'<td><a href="../notebooks/{chapter_of(claim)}.html#verdicts">{escape(claim.says)}</a></td>',
        f'<td data-column="Place" data-value="{paper}">{paper}, {escape(claim.place)}</td>',
        f'<td data-column="Family" data-value="{claim.family}">{claim.family}</td>',
        f'<td data-column="Papers\' scale">{_reported_html(claim)}</td>',
        *(
            f'<td data-column="{title}" data-value="{verdict.word}">{verdict_html(verdict)}{_parting(verdict)}</td>'
            for title, verdict in zip(titles, verdicts, strict=True)
        ),
    ]
    return f'<tr id="{escape(claim.id)}">{"".join(cells)}</tr>'
