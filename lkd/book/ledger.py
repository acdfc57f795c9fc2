"""The directive `{ledger}`: every claim of the papers, with its verdict at each scale that was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from lkd.book.copies import read_copy
from lkd.book.data_table import csv_link

if TYPE_CHECKING:
    from lkd.paper.claims import Verdict


class Ledger(SphinxDirective):
    """All claims, one row each."""

    def run(self) -> list[nodes.Node]:
        """A table of verdicts as HTML, with its CSV."""
        from lkd.paper.claims import ledger
        from lkd.records import profiles, published
        from lkd.store import Store

        sources = sorted((Path(self.env.srcdir) / "notebooks").glob("*.ipynb"))
        self.env.note_reread()
        copies = [read_copy(Path(self.config.lkd_chapters), path.stem) for path in sources]
        here = {copy.profile for copy in copies if copy.profile and not copy.from_records} - {"smoke"}
        columns = {f"{name}, here": ledger(name, Store()) for name in sorted(here)}
        columns |= {f"{name}, published": ledger(name, published(name)) for name in profiles()}
        return [nodes.raw("", ledger_html(columns or {"not run": ledger("small", Store())}), format="html")]


def ledger_html(columns: Mapping[str, Sequence[Verdict]]) -> str:
    """A row a claim: what it says and where, and for each of some sets of runs the verdict and the difference."""
    from lkd.paper.claims import table_of

    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in ("Claim", "Place", *columns))
    rows = [_row(row) for row in zip(*columns.values(), strict=True)]
    counts = [f"{title}: {_counted(verdicts)}" for title, verdicts in columns.items()]
    tables = [table_of(verdicts).assign(runs=title) for title, verdicts in columns.items()]
    names = list(tables[0].columns)
    values = [row for table in tables for row in table.astype(object).to_numpy().tolist()]
    return (
        f"<p>{escape('; '.join(counts))}.</p>"
        f'<div class="lkd-scroll lkd-ledger" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{csv_link(names, values, 'claims.csv')}"
    )


def _row(verdicts: Sequence[Verdict]) -> str:
    from lkd.paper.evidence import CHAPTERS as STUDIES_OF

    claim = verdicts[0].claim
    chapter = next(name for name, studies in STUDIES_OF.items() if claim.study in studies)
    says = f'<a href="../notebooks/{chapter}.html#verdicts">{escape(claim.says)}</a>'
    cells = "".join(f"<td>{_verdict(verdict)}</td>" for verdict in verdicts)
    return f"<tr><td>{says}</td><td>{escape(claim.paper)}, {escape(claim.place)}</td>{cells}</tr>"


def _verdict(verdict: Verdict) -> str:
    word = f'<span class="lkd-verdict lkd-{verdict.word.replace(" ", "-")}">{verdict.word}</span>'
    if verdict.found is None:
        return word
    low, high = verdict.found.interval()
    interval = f" [{low:.2f}, {high:.2f}]" if low == low else ", nothing repeated"
    return f"{word}<br>{verdict.found.mean:+.2f}{interval} {escape(verdict.claim.unit)}"


def _counted(verdicts: Sequence[Verdict]) -> str:
    from lkd.paper.claims import VERDICTS

    words = [verdict.word for verdict in verdicts]
    return ", ".join(f"{words.count(word)} {word}" for word in VERDICTS if word in words)
