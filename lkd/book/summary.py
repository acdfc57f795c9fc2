"""The front page: the answers to the papers' main questions, written from the verdicts by rule, and the findings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from lkd.book.executed import read_copy
from lkd.book.forest import interval_svg
from lkd.book.hero import LOGS, Lead, hero_html, leads_in_logs, leads_of
from lkd.book.ledger import chapter_of, judged, run_sets, verdict_html
from lkd.book.table_output import scroll_box
from lkd.runs.public_names import public

if TYPE_CHECKING:
    from lkd.paper.verdicts import Verdict
    from lkd.runs.store import Store

_CHAPTER = "logit_kd"
"""The chapter of the book's question."""

_DECIDED = ("supported", "contradicted", "no difference that matters")

_ANSWERS = {
    "logits-modern-convnets-over-transformers": {
        "supported": "Modern ConvNets (SLaK, ConvNeXt) are better teachers of small ConvNets than transformers",
        "contradicted": "Transformers are better teachers of small ConvNets than modern ConvNets (SLaK, ConvNeXt)",
        "no difference that matters": "Modern ConvNets (SLaK, ConvNeXt) and transformers are equally good teachers",
        "not decided": "It is not decided whether modern ConvNets (SLaK, ConvNeXt) teach better than transformers",
        "not run": "The comparison of modern ConvNets with transformers as teachers was not run",
    },
    "logits-larger-kernels-more": {
        "supported": "SLaK's larger kernels make a still better teacher than ConvNeXt's",
        "contradicted": "SLaK's larger kernels make a worse teacher than ConvNeXt's",
        "no difference that matters": "SLaK's larger kernels make neither a better nor a worse teacher than ConvNeXt's",
        "not decided": "It is not decided whether SLaK's larger kernels teach better than ConvNeXt's",
        "not run": "The comparison of SLaK with ConvNeXt as teachers was not run",
    },
    "vanilla-matches-dkd": {
        "supported": "With more data and a strong recipe, plain distillation matches DKD",
        "contradicted": "Also with more data and a strong recipe, plain distillation is behind DKD",
        "not decided": "It is not decided whether plain distillation matches DKD with more data and a strong recipe",
        "not run": "The comparison of plain distillation with DKD was not run",
    },
}
"""The sentence for each verdict on the three main claims; the difference follows it."""


class Headline(SphinxDirective):
    """`{headline}`: the answers to the book's questions, and the leads of the teachers as a figure."""

    def run(self) -> list[nodes.Node]:
        """Sentences, figure and scale, as HTML."""
        columns = judged(self)
        shown = read_copy(Path(self.env.config.lkd_chapters), _CHAPTER).profile
        figure = hero_html(_panels(columns, run_sets(self)))
        return [nodes.raw("", f"{answers_html(columns)}{figure}{scale_html(columns, shown)}", format="html")]


class Findings(SphinxDirective):
    """`{findings}`: the verdicts on the primary claims."""

    def run(self) -> list[nodes.Node]:
        """A table with intervals, as HTML."""
        return [nodes.raw("", findings_html(best_scale(judged(self))), format="html")]


def answers_html(columns: Mapping[str, Sequence[Verdict]]) -> str:
    """Three sentences, from the set of runs that decides most of the primary claims.

    Args:
        columns: the verdicts on all claims, by name of the set of runs.
    """
    known = {verdict.claim.id: verdict for verdict in best_scale(columns)}
    return f'<p class="lkd-answer">{" ".join(_sentence(known[name]) for name in _ANSWERS)}</p>'


def _panels(
    columns: Mapping[str, Sequence[Verdict]], sets: Mapping[str, tuple[str, Store]]
) -> dict[str, Sequence[Lead]]:
    """The panels of the figure: the best set of runs for each data set, then the authors' logs."""
    from lkd.profiles import Profile
    from lkd.study.chapters import STUDIES

    by_data: dict[str, dict[str, Sequence[Verdict]]] = {}
    for title, verdicts in columns.items():
        by_data.setdefault(Profile.load(sets[title][0]).data, {})[title] = verdicts
    panels: dict[str, Sequence[Lead]] = {}
    for data, some in by_data.items():
        best = best_scale(some)
        title = next(title for title, verdicts in some.items() if verdicts is best)
        profile, store = sets[title]
        results = STUDIES[_CHAPTER](profile).find(store)
        if results is not None and (leads := leads_of(results.gains)):
            panels[f"Here: small networks on {_title(data)}"] = leads
    return {**panels, LOGS: leads_in_logs()}


def best_scale(columns: Mapping[str, Sequence[Verdict]]) -> Sequence[Verdict]:
    """The verdicts of the set of runs with most confirmatory decisions on primary claims, then with most decisions."""

    def rank(verdicts: Sequence[Verdict]) -> tuple[int, int, int]:
        primary = [verdict for verdict in verdicts if verdict.claim.family == "primary"]
        decided = [verdict for verdict in primary if verdict.word in _DECIDED]
        run = [verdict for verdict in primary if verdict.found]
        return sum(verdict.confirmatory for verdict in decided), len(decided), len(run)

    return max(columns.values(), key=rank)


def _sentence(verdict: Verdict) -> str:
    """The answer with its difference and interval."""
    text, found = _ANSWERS[verdict.claim.id][verdict.word], verdict.found
    if found is None:
        return f"{escape(text)}."
    low, high = found.interval()
    interval = f" [{low:.2f}, {high:.2f}]" if low == low else ""
    number = f"{found.mean:+.2f}{interval} {verdict.claim.unit}"
    if verdict.trained_once:
        number += ", each teacher trained once"
    return f"<strong>{escape(text)}</strong> ({escape(number)})."


def scale_html(columns: Mapping[str, Sequence[Verdict]], shown: str | None) -> str:
    """The scale of the answers, their runs, and the command that repeats them.

    Args:
        columns: as in `answers_html`.
        shown: the profile of the runs on the chapter's page.
    """
    from lkd.profiles import Profile

    best = best_scale(columns)
    profile = Profile.load(best[0].profile)
    confirmatory = any(verdict.confirmatory for verdict in best if verdict.claim.id in _ANSWERS)
    command = f"lkd run {_CHAPTER} -p profile={shlex.quote(public(profile.source))}"
    link = f'<a href="../notebooks/{_CHAPTER}.html#table-runs">The runs</a>' if shown == profile.source else "The runs"
    kind = "confirmatory" if confirmatory else "exploratory"
    return (
        f'<p class="lkd-note">Scale: {escape(public(profile.description))} Brackets are 95 % intervals. {link} are '
        f"{kind}, and repeated by {_code(command)}.</p>"
    )


def _code(command: str) -> str:
    return f'<code class="lkd-command">{escape(command)}</code>'


def _title(data: str) -> str:
    """The name of a data set in prose."""
    from lkd.data.downloads import DOWNLOADS

    return DOWNLOADS[data].title if data in DOWNLOADS else public(data)


def findings_html(verdicts: Sequence[Verdict]) -> str:
    """A table of the primary claims with their intervals, decided ones first."""
    primary = sorted(
        (verdict for verdict in verdicts if verdict.claim.family == "primary"),
        key=lambda verdict: verdict.word not in _DECIDED,
    )
    heads = ["Claim", "Difference by the smallest that matters", "Verdict"]
    rows = []
    for verdict in primary:
        chapter = f"../notebooks/{chapter_of(verdict.claim)}.html#verdicts"
        claim = f'<a href="{chapter}">{escape(verdict.claim.says)}</a>'
        cells = [claim, interval_svg(verdict), verdict_html(verdict)]
        labelled = [f'<td data-column="{head}">{cell}</td>' for head, cell in zip(heads, cells, strict=True)]
        rows.append(f"<tr>{''.join(labelled)}</tr>")
    return scroll_box([f'<th scope="col">{head}</th>' for head in heads], rows, "lkd-cards lkd-headline")
