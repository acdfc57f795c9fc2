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
        "supported": "For small ConvNets, modern ConvNets (SLaK, ConvNeXt) are better teachers than transformers",
        "contradicted": "For small ConvNets, transformers are better teachers than modern ConvNets (SLaK, ConvNeXt)",
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
        "supported": "With more data and a strong recipe, DKD does not beat plain distillation",
        "contradicted": "Even with more data and a strong recipe, DKD beats plain distillation",
        "not decided": "It is not decided whether DKD beats plain distillation with more data and a strong recipe",
        "not run": "The comparison of plain distillation with DKD was not run",
    },
}
"""The sentence for each verdict on the three main claims; the difference follows it."""


class Headline(SphinxDirective):
    """`{headline}`: the answers to the book's questions, and the leads of the teachers as a figure."""

    def run(self) -> list[nodes.Node]:
        """Sentences, figure and scale, as HTML."""
        columns = judged(self)
        best = best_verdicts(columns)
        figure = hero_html(_panels(columns, run_sets(self)))
        folder = Path(self.env.config.lkd_chapters)
        shown = {name: read_copy(folder, name).profile for name in {chapter_of(best[each].claim) for each in _ANSWERS}}
        return [nodes.raw("", f"{answers_html(best)}{figure}{scale_html(best, shown)}", format="html")]


class Findings(SphinxDirective):
    """`{findings}`: the verdicts on the primary claims."""

    def run(self) -> list[nodes.Node]:
        """A table with intervals, as HTML."""
        return [nodes.raw("", findings_html(best_verdicts(judged(self))), format="html")]


def best_verdicts(columns: Mapping[str, Sequence[Verdict]]) -> dict[str, Verdict]:
    """The verdict on each claim by its best set of runs, by the claim's id.

    Confirmatory runs are better than exploratory ones, then more of them are better. The verdict plays no role.

    Args:
        columns: the verdicts on all claims, by name of the set of runs.
    """
    return {row[0].claim.id: max(row, key=_weight) for row in zip(*columns.values(), strict=True)}


def _weight(verdict: Verdict) -> tuple[bool, int]:
    """Whether the runs behind a verdict are confirmatory, and their number."""
    return verdict.confirmatory, verdict.found.teacher_seeds * verdict.found.seeds if verdict.found else 0


def answers_html(best: Mapping[str, Verdict]) -> str:
    """Three sentences.

    Args:
        best: a verdict for each claim, by its id.
    """
    return f'<p class="lkd-answer">{" ".join(_sentence(best[name]) for name in _ANSWERS)}</p>'


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
        best = best_verdicts(some)[next(iter(_ANSWERS))]
        title = next(title for title, verdicts in some.items() if any(each is best for each in verdicts))
        profile, store = sets[title]
        results = STUDIES[_CHAPTER](profile).find(store)
        if results is not None and (leads := leads_of(results.gains)):
            panels[f"Here: small networks on {_title(data)}"] = leads
    return {**panels, LOGS: leads_in_logs()}


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


def scale_html(best: Mapping[str, Verdict], shown: Mapping[str, str | None]) -> str:
    """The scale of the answers, their runs, and the commands that repeat them: one paragraph per profile.

    Args:
        best: as in `answers_html`.
        shown: the profile of the runs on each chapter's page.
    """
    by_profile: dict[str, dict[int, Verdict]] = {}
    for number, name in enumerate(_ANSWERS, 1):
        by_profile.setdefault(best[name].profile, {})[number] = best[name]
    several = len(by_profile) > 1
    return "".join(_scale_of(answers, several, shown) for answers in by_profile.values())


def _scale_of(answers: Mapping[int, Verdict], several: bool, shown: Mapping[str, str | None]) -> str:
    """The paragraph on the answers of one profile, given by their numbers; with the numbers if there are several."""
    from lkd.profiles import Profile

    verdicts = list(answers.values())
    profile = Profile.load(verdicts[0].profile)
    name = shlex.quote(public(profile.source))
    chapters = dict.fromkeys(chapter_of(each.claim) for each in verdicts)
    commands = " and ".join(_code(f"lkd run {chapter} -p profile={name}") for chapter in chapters)
    page = next((chapter for chapter in chapters if shown.get(chapter) == profile.source), None)
    runs = f'<a href="../notebooks/{page}.html#table-runs">The runs</a>' if page else "The runs"
    kind = "confirmatory" if all(each.confirmatory for each in verdicts) else "exploratory"
    which = f" of answer{'s' * (len(answers) > 1)} {' and '.join(map(str, answers))}" if several else ""
    return (
        f'<p class="lkd-note">Scale{which}: {escape(public(profile.description))} Brackets are 95 % intervals. '
        f"{runs} are {kind}, and repeated by {commands}.</p>"
    )


def _code(command: str) -> str:
    return f'<code class="lkd-command">{escape(command)}</code>'


def _title(data: str) -> str:
    """The name of a data set in prose."""
    from lkd.data.downloads import DOWNLOADS

    return DOWNLOADS[data].title if data in DOWNLOADS else public(data)


def findings_html(best: Mapping[str, Verdict]) -> str:
    """A table of the primary claims with their intervals, decided ones first.

    Args:
        best: as in `answers_html`.
    """
    primary = sorted(
        (verdict for verdict in best.values() if verdict.claim.family == "primary"),
        key=lambda verdict: verdict.word not in _DECIDED,
    )
    heads = ["Claim", "Difference / smallest that matters", "Verdict"]
    rows = []
    for verdict in primary:
        chapter = f"../notebooks/{chapter_of(verdict.claim)}.html#verdicts"
        claim = f'<a href="{chapter}">{escape(verdict.claim.says)}</a>'
        cells = [claim, interval_svg(verdict), f"{verdict_html(verdict)}{_profile_html(verdict)}"]
        labelled = [f'<td data-column="{head}">{cell}</td>' for head, cell in zip(heads, cells, strict=True)]
        rows.append(f"<tr>{''.join(labelled)}</tr>")
    return scroll_box([f'<th scope="col">{head}</th>' for head in heads], rows, "lkd-cards lkd-headline")


def _profile_html(verdict: Verdict) -> str:
    """A link to the profile of the runs."""
    from lkd.profiles import profile_name

    return f'<br>runs: <a href="profiles.html">{escape(profile_name(verdict.profile))}</a>' if verdict.found else ""
