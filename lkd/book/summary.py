"""The directive `{headline}`: what the runs answer to the papers' main questions."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from lkd.book.executed import read_copy
from lkd.book.ledger import judged, verdict_html
from lkd.book.table_output import scroll_box
from lkd.runs.public_names import public

if TYPE_CHECKING:
    from lkd.paper.claims import Verdict

_QUESTION = "logits-large-kernels-over-transformers"
"""The claim that answers the book's question."""

_CHAPTER = "logit_kd"
"""The chapter that tests it."""

_ANSWERS = {"supported": "yes", "contradicted": "no", "inconclusive": "not decided", "not run": "not run"}

_COLUMNS = {
    "Large kernels teach better": _QUESTION,
    "Also at equal accuracy": "matched-large-kernels-over-transformers",
    "Vanilla KD matches DKD (by DKD's lead)": "vanilla-matches-dkd",
}
"""The claims that people come for, in few words."""


class Headline(SphinxDirective):
    """The answer to the book's question, and how many of all claims hold."""

    def run(self) -> list[nodes.Node]:
        """A paragraph and a table as HTML."""
        copy = read_copy(Path(self.env.config.lkd_chapters), _CHAPTER)
        return [nodes.raw("", headline_html(judged(self), copy.profile), format="html")]


def headline_html(columns: Mapping[str, Sequence[Verdict]], shown: str | None) -> str:
    """The book's question, answered by those runs that were repeated most; and a row for each set of runs.

    Args:
        columns: the verdicts on all claims, by what the runs are called.
        shown: the profile of the runs that the chapter's page shows.
    """
    known = {title: {verdict.claim.id: verdict for verdict in verdicts} for title, verdicts in columns.items()}
    best = max((by_claim[_QUESTION] for by_claim in known.values()), key=_repeated)
    heads = ["Runs", *_COLUMNS, "All claims"]
    head = [f'<th scope="col">{escape(head)}</th>' for head in heads]
    rows = [_row(heads, title, by_claim) for title, by_claim in known.items()]
    return _answer(best, shown) + scroll_box(head, rows, "lkd-cards lkd-headline")


def _repeated(verdict: Verdict) -> int:
    return verdict.found.teacher_seeds * verdict.found.seeds if verdict.found else 0


def _answer(verdict: Verdict, shown: str | None) -> str:
    """The verdict as a sentence, how sure it is, of which runs, and the command that repeats them."""
    from lkd.profiles import Profile
    from lkd.study.chapters import STUDIES

    claim, profile = verdict.claim, Profile.load(verdict.profile)
    runs = len(STUDIES[claim.study](profile.source).recipes)
    command = f"lkd run {_CHAPTER} -p profile={shlex.quote(public(profile.source))}"
    if shown == profile.source:
        where = f'<a href="../notebooks/{_CHAPTER}.html#table-runs">The {runs} runs behind it</a>'
    else:
        published = _code(f"{command} -p published=True")
        where = f"The {runs} runs behind it (here {published} and {_code('make site')} show them)"
    return (
        f"<p><strong>At this scale: {_ANSWERS[verdict.word]}.</strong> "
        f"The claim “{escape(claim.says)}” {_found(verdict)} Scale: {escape(public(profile.description))} "
        f"{where} are repeated by {_code(command)}.</p>"
    )


def _code(command: str) -> str:
    return f'<code class="lkd-command">{escape(command)}</code>'


def _found(verdict: Verdict) -> str:
    """What became of the claim, and what makes that sure or unsure."""
    found = verdict.found
    if found is None:
        return "has not been run."
    low, high = found.interval()
    interval = f"95 % interval {low:.2f} to {high:.2f}" if low == low else "with nothing repeated"
    if verdict.claim.between_teachers and found.teacher_seeds < 2:
        sure = "Each teacher was trained once, which decides nothing between them."
    elif verdict.times == verdict.times:
        more = f"{verdict.times:.0f} times"
        sure = f"About {more} as many teachers and {more} as many students of each would probably decide it."
    else:
        sure = ""
    return f"is {verdict.word}: {found.mean:+.2f} {escape(verdict.claim.unit)}, {interval}. {sure}"


def _row(heads: Sequence[str], title: str, verdicts: Mapping[str, Verdict]) -> str:
    """One set of runs: what it says about the claims of the columns, and how many verdicts of each kind it has."""
    counts = Counter(verdict.word for verdict in verdicts.values())
    counted = "<br>".join(f"{count} {word}" for word, count in counts.most_common())
    cells = [escape(title), *(verdict_html(verdicts[id]) for id in _COLUMNS.values()), counted]
    labelled = [f'<td data-column="{escape(head)}">{cell}</td>' for head, cell in zip(heads, cells, strict=True)]
    return f"<tr>{''.join(labelled)}</tr>"
