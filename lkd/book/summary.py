"""The directive `{headline}`: the answer to the papers' main questions."""

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
"""The main claims, in short."""


class Headline(SphinxDirective):
    """The answer to the book's question, and the number of claims that hold."""

    def run(self) -> list[nodes.Node]:
        """A paragraph and a table as HTML."""
        copy = read_copy(Path(self.env.config.lkd_chapters), _CHAPTER)
        return [nodes.raw("", headline_html(judged(self), copy.profile), format="html")]


def headline_html(columns: Mapping[str, Sequence[Verdict]], shown: str | None) -> str:
    """The answer to the book's question, from the runs with most repetitions, and a table of all sets of runs.

    Args:
        columns: the verdicts on all claims, by name of the set of runs.
        shown: the profile of the runs on the chapter's page.
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
    """The verdict as a sentence, its certainty, the runs behind it, and the command that repeats them."""
    from lkd.profiles import Profile
    from lkd.study.chapters import STUDIES

    claim, profile = verdict.claim, Profile.load(verdict.profile)
    runs = len(STUDIES[claim.study](profile.source).recipes)
    command = f"lkd run {_CHAPTER} -p profile={shlex.quote(public(profile.source))}"
    if shown == profile.source:
        where = f'<a href="../notebooks/{_CHAPTER}.html#table-runs">The {runs} runs behind it</a>'
    else:
        published = _code(f"{command} -p published=True")
        where = f"The {runs} runs behind it (to show them here, run {published} and {_code('make site')})"
    return (
        f"<p><strong>At this scale: {_ANSWERS[verdict.word]}.</strong> "
        f"The claim “{escape(claim.says)}” {_found(verdict)} Scale: {escape(public(profile.description))} "
        f"{where} are repeated by {_code(command)}.</p>"
    )


def _code(command: str) -> str:
    return f'<code class="lkd-command">{escape(command)}</code>'


def _found(verdict: Verdict) -> str:
    """The verdict on the claim, with its difference, interval and certainty."""
    found = verdict.found
    if found is None:
        return "has not been run."
    low, high = found.interval()
    interval = f"95 % interval {low:.2f} to {high:.2f}" if low == low else "without repetitions"
    if verdict.claim.between_teachers and found.teacher_seeds < 2:
        certainty = "Each teacher was trained once, so nothing can be decided between them."
    elif verdict.times == verdict.times:
        more = f"{verdict.times:.0f} times"
        certainty = f"About {more} as many teachers and {more} as many students of each would probably decide it."
    else:
        certainty = ""
    return f"is {verdict.word}: {found.mean:+.2f} {escape(verdict.claim.unit)}, {interval}. {certainty}"


def _row(heads: Sequence[str], title: str, verdicts: Mapping[str, Verdict]) -> str:
    """A row for one set of runs: verdicts on the main claims, and counts of all verdicts."""
    counts = Counter(verdict.word for verdict in verdicts.values())
    counted = "<br>".join(f"{count} {word}" for word, count in counts.most_common())
    cells = [escape(title), *(verdict_html(verdicts[id]) for id in _COLUMNS.values()), counted]
    labelled = [f'<td data-column="{escape(head)}">{cell}</td>' for head, cell in zip(heads, cells, strict=True)]
    return f"<tr>{''.join(labelled)}</tr>"
