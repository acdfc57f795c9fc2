"""The figure of the front page: each teacher's students against the students of all others, here and in the logs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

LOGS = "Authors' logs: ImageNet-A, -R, -Sketch"
CONVNETS = ("SLaK", "ConvNeXt")
_LIMITS = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
"""Ends of the axis, in points."""
_WIDTH, _LEFT, _ROW, _TOP = 340, 84, 30, 8


class Lead(NamedTuple):
    """Mean accuracy of a teacher's students minus that of all other teachers' students.

    Args:
        family: the teacher.
        lead: the difference, in points.
        low, high: its 95 % interval; NaN without repetitions.
    """

    family: str
    lead: float
    low: float = math.nan
    high: float = math.nan


def leads_of(gains: pd.DataFrame) -> list[Lead]:
    """The leads of the teachers in a table of gains, in the order of `FAMILIES`; empty for fewer than two teachers.

    Args:
        gains: `Results.gains` of a study.
    """
    from lkd.paper.author_logs import FAMILIES, family
    from lkd.study import effect

    teachers = {family(name): name for name in gains.teacher.unique()}
    known = [name for name in FAMILIES if name in teachers]
    found = []
    for name in known if len(known) > 1 else ():
        others = [teachers[other] for other in known if other != name]
        seen = effect(gains, "direct_gain", {"teacher": [teachers[name]]}, {"teacher": others})
        found.append(Lead(name, seen.mean, *seen.interval()))
    return found


def leads_in_logs() -> list[Lead]:
    """The leads in the authors' logs: the mean over the sets and students that a teacher has."""
    from lkd.paper.author_logs import FAMILIES, scores

    cells = [rows.set_index("teacher").top1 for _, rows in scores().groupby(["set", "student"])]
    leads = {
        name: [float(cell[name] - cell.drop(name).mean()) for cell in cells if name in cell.index] for name in FAMILIES
    }
    return [Lead(name, sum(each) / len(each)) for name, each in leads.items()]


def hero_html(panels: Mapping[str, Sequence[Lead]]) -> str:
    """The figure: one panel for each set of runs, side by side, and one above the other on a phone."""
    figures = "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{_panel(leads)}</figure>" for title, leads in panels.items()
    )
    return (
        f'<div class="lkd-hero">{figures}</div><p class="lkd-note">Accuracy of each teacher\'s students, minus '
        'the mean over the students of the other teachers. <span class="lkd-convnet">●</span> ConvNet, '
        '<span class="lkd-transformer">■</span> transformer; lines are 95 % intervals; the logs have single runs.</p>'
    )


def _panel(leads: Sequence[Lead]) -> str:
    """An SVG with a row for each teacher."""
    ends = [abs(end) for each in leads for end in each[1:] if end == end]
    limit = next((limit for limit in _LIMITS if limit >= max(ends)), max(ends))
    height = _TOP + _ROW * len(leads) + 26
    bottom = height - 22
    rows = "".join(_row(each, _TOP + (number + 0.5) * _ROW, limit) for number, each in enumerate(leads))
    ticks = "".join(
        f'<line class="lkd-tick" x1="{_x(at, limit):.1f}" x2="{_x(at, limit):.1f}" y1="{_TOP}" y2="{bottom}"/>'
        f'<text x="{_x(at, limit):.1f}" y="{height - 6}" text-anchor="{anchor}">{_number(at)}{unit}</text>'
        for at, anchor, unit in ((-limit, "start", ""), (0.0, "middle", ""), (limit, "end", " points"))
    )
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(_alt(leads))}">{ticks}{rows}</svg>'


def _row(lead: Lead, y: float, limit: float) -> str:
    x, kind = _x(lead.lead, limit), "convnet" if lead.family in CONVNETS else "transformer"
    line = ""
    if lead.low == lead.low:
        line = f'<line x1="{_x(lead.low, limit):.1f}" x2="{_x(lead.high, limit):.1f}" y1="{y:g}" y2="{y:g}"/>'
    mark = f'<circle cx="{x:.1f}" cy="{y:g}" r="5.5"/>'
    if kind == "transformer":
        mark = f'<rect x="{x - 5:.1f}" y="{y - 5:g}" width="10" height="10"/>'
    return f'<text x="0" y="{y + 5:g}">{lead.family}</text><g class="lkd-{kind}">{line}{mark}</g>'


def _x(value: float, limit: float) -> float:
    inner = _WIDTH - _LEFT - 8
    return _LEFT + inner * (0.5 + max(-limit, min(limit, value)) / (2 * limit))


def _number(value: float) -> str:
    return f"{value:+g}" if value else "0"


def _alt(leads: Iterable[Lead]) -> str:
    texts = []
    for family, lead, low, high in leads:
        texts.append(f"{family} {lead:+.2f}" + (f" [{low:.2f}, {high:.2f}]" if low == low else ""))
    return f"Lead in points: {'; '.join(texts)}"
