"""A forest plot of verdicts, as SVG in the colours of the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lkd.paper.claims import Claim
    from lkd.paper.verdicts import Verdict

_LIMIT = 4.0
"""Largest value on the axis, as a multiple of the smallest effect of interest; longer intervals are cut."""
_ROW, _WIDTH = 22, 300


def forest(verdicts: Sequence[Verdict]) -> str:
    """An SVG with one row per verdict: difference and 95 % interval, as multiples of the smallest effect of interest.

    The band marks differences that do not matter. Claims that were not run have an empty row.
    """
    height = _ROW * len(verdicts)
    rows = "".join(_row(verdict, (number + 0.5) * _ROW) for number, verdict in enumerate(verdicts))
    return (
        f'<svg class="lkd-forest" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(_alt(verdicts))}">'
        f'<rect class="lkd-band" x="{_x(-1):.1f}" width="{_x(1) - _x(-1):.1f}" height="{height}"/>'
        f'<line class="lkd-zero" x1="{_x(0):.1f}" x2="{_x(0):.1f}" y2="{height}"/>{rows}</svg>'
    )


def interval_svg(verdict: Verdict) -> str:
    """The row of one verdict."""
    return forest([verdict])


def _row(verdict: Verdict, y: float) -> str:
    if verdict.found is None:
        return ""
    low, high = (end / verdict.claim.matters for end in verdict.found.interval())
    mean = verdict.found.mean / verdict.claim.matters
    kind = f"lkd-{verdict.word.replace(' ', '-')}-mark"
    line = f'<line x1="{_x(low):.1f}" x2="{_x(high):.1f}" y1="{y:g}" y2="{y:g}"/>' if low == low else ""
    return f'<g class="{kind}">{line}<circle cx="{_x(mean):.1f}" cy="{y:g}" r="4"/></g>'


def _x(value: float) -> float:
    return _WIDTH * (0.5 + max(-_LIMIT, min(_LIMIT, value)) / (2 * _LIMIT + 0.5))


def _alt(verdicts: Sequence[Verdict]) -> str:
    return "; ".join(f"{verdict.claim.id}: {verdict.word}{_numbers(verdict)}" for verdict in verdicts)


def _numbers(verdict: Verdict) -> str:
    claim: Claim = verdict.claim
    return "" if verdict.found is None else f", {verdict.found.mean:+.2f} {claim.unit}"
