"""The directive `{headline}`: the answers to the papers' main questions, written from the verdicts by rule."""

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
from lkd.book.ledger import chapter_of, judged, verdict_html
from lkd.book.table_output import scroll_box
from lkd.runs.public_names import public

if TYPE_CHECKING:
    from lkd.paper.verdicts import Verdict

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
    """The answers to the book's questions, and the verdicts on the primary claims."""

    def run(self) -> list[nodes.Node]:
        """Sentences and a table with intervals, as HTML."""
        copy = read_copy(Path(self.env.config.lkd_chapters), _CHAPTER)
        return [nodes.raw("", headline_html(judged(self), copy.profile), format="html")]


def headline_html(columns: Mapping[str, Sequence[Verdict]], shown: str | None) -> str:
    """Three sentences and the primary claims, from the set of runs that decides most of them.

    Args:
        columns: the verdicts on all claims, by name of the set of runs.
        shown: the profile of the runs on the chapter's page.
    """
    best = best_scale(columns)
    known = {verdict.claim.id: verdict for verdict in best}
    sentences = " ".join(_sentence(known[name]) for name in _ANSWERS)
    confirmatory = any(known[name].confirmatory for name in _ANSWERS)
    return f'<p class="lkd-answer">{sentences}</p>{_scale(best[0], shown, confirmatory)}{_primary(best)}'


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


def _scale(verdict: Verdict, shown: str | None, confirmatory: bool) -> str:
    """The scale of the answers, their runs, and the command that repeats them."""
    from lkd.profiles import Profile

    profile = Profile.load(verdict.profile)
    command = f"lkd run {_CHAPTER} -p profile={shlex.quote(public(profile.source))}"
    link = f'<a href="../notebooks/{_CHAPTER}.html#table-runs">The runs</a>' if shown == profile.source else "The runs"
    kind = "confirmatory" if confirmatory else "exploratory"
    return (
        f"<p>Scale: {escape(public(profile.description))} Brackets are 95 % intervals. {link} are {kind}, and repeated "
        f"by {_code(command)}.</p>"
    )


def _code(command: str) -> str:
    return f'<code class="lkd-command">{escape(command)}</code>'


def _primary(verdicts: Sequence[Verdict]) -> str:
    """A table of the primary claims with their intervals, decided ones first."""
    primary = sorted(
        (verdict for verdict in verdicts if verdict.claim.family == "primary"),
        key=lambda verdict: verdict.word not in _DECIDED,
    )
    heads = ["Primary claim", "Difference by the smallest that matters", "Verdict"]
    rows = []
    for verdict in primary:
        chapter = f"../notebooks/{chapter_of(verdict.claim)}.html#verdicts"
        claim = f'<a href="{chapter}">{escape(verdict.claim.says)}</a>'
        cells = [claim, interval_svg(verdict), verdict_html(verdict)]
        labelled = [f'<td data-column="{head}">{cell}</td>' for head, cell in zip(heads, cells, strict=True)]
        rows.append(f"<tr>{''.join(labelled)}</tr>")
    return scroll_box([f'<th scope="col">{head}</th>' for head in heads], rows, "lkd-cards lkd-headline")
