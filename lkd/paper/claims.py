"""Claims: what the papers say, the rules by which it is judged, and the verdicts.

A rule names a mean difference in a table and what it should be. A claim is *supported* when the difference is on the
expected side of its margin and the p-value of its being at the margin is below 0.05 after Holm's correction over all
claims of the same study; *contradicted* when it is on the other side by the same measure; *inconclusive* otherwise,
also where nothing was repeated or nothing varied; and *not run* where the store lacks a run. For a difference that
should lie within a margin, the p-value is that of two one-sided tests, and a difference significantly outside
contradicts.

A difference between teachers is *inconclusive* where each was trained once only, whatever its p-value: that one
training's luck would be taken for the teacher's merit. (Added after the first run of the `small` profile had been seen;
it can only weaken a verdict.)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from scipy import stats

from lkd.profiles import profile_name
from lkd.runs.store import Store
from lkd.study import Effect, Results, effect
from lkd.study.chapters import STUDIES, TABLES
from lkd.study.compare import LackingError
from lkd.study.grid import WithoutWeightsError
from lkd.tables import Table
from lkd.util.checks import unknown

LEVEL = 0.05
POWER = 0.8
VERDICTS = ("supported", "contradicted", "inconclusive", "not run")
_FILE = Path(__file__).with_name("claims.yaml")
_EXPECTS = ("above", "below", "within")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of a paper and the rule that judges it; the fields are those of `claims.yaml`, explained there."""

    id: str
    paper: str
    place: str
    known: str
    says: str
    study: str
    table: str
    value: str
    unit: str
    high: Mapping[str, Sequence[str]]
    expects: str
    margin: float
    low: Mapping[str, Sequence[str]] | None = None
    where: Mapping[str, Sequence[str]] | None = None
    once: bool = False

    @property
    def between_teachers(self) -> bool:
        """Whether it sets one teacher beside another."""
        return bool(self.low and {"teacher", "kernel", "size"} & set(self.low))

    def effect(self, table: pd.DataFrame) -> Effect:
        """The difference that the rule names, in the table of results that it names.

        Raises:
            LackingError: the table does not hold what is compared.
        """
        for column, entries in (self.where or {}).items():
            table = table[table[column].isin(list(entries))]
        if self.once:
            table = table.drop_duplicates([*self.high, "teacher_seed"]).assign(seed=0)
        return effect(table, self.value, self.high, self.low)

    def p_values(self, found: Effect) -> tuple[float, float]:
        """Of the difference being as expected, and of its being the contrary, by chance alone."""
        ends = [stats.t.sf((found.mean - end) / found.error, found.freedom) for end in (-self.margin, self.margin)]
        above_low, above_high = (float(p) for p in ends)
        if self.expects == "within":
            return max(above_low, 1 - above_high), 2 * min(1 - above_low, above_high)
        if self.expects == "above":
            return 2 * above_high, 2 * (1 - above_high)
        return 2 * (1 - above_high), 2 * above_high


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a profile's runs say about a claim.

    Attributes:
        claim: the claim.
        profile: the scale, as `Profile.load` finds it.
        word: one of `VERDICTS`.
        found: the difference; None where it was not run.
        p: of the verdict, after Holm's correction; NaN where there is none.
        times: about how many times as many teacher instances and student seeds an inconclusive one would need, to be
            decided with a power of 0.8 if the difference is what it seems, by the normal approximation and before
            Holm's correction; NaN for others, and for teachers that were trained once.
    """

    claim: Claim
    profile: str
    word: str
    found: Effect | None = None
    p: float = math.nan
    times: float = math.nan

    @property
    def trained_once(self) -> bool:
        """Whether it is between teachers of which each was trained once, so that these runs cannot decide it."""
        return self.found is not None and self.found.teacher_seeds < 2 and self.claim.between_teachers


@cache
def claims() -> dict[str, Claim]:
    """All claims, by id.

    Raises:
        ValueError: a claim whose rule cannot be read; says which and why.

    Example:
        >>> from lkd.paper.claims import claims
        >>> claims()["logits-help-at-all"].paper
        'L2S'
    """
    return read_claims(_FILE)


def read_claims(path: Path) -> dict[str, Claim]:
    """The claims of a file; see `claims`."""
    content = yaml.safe_load(path.read_text())
    made: dict[str, Claim] = {}
    for entry in content["claims"]:
        name = entry.get("id")
        known = {field.name: field.default for field in fields(Claim)}
        for key in entry:
            if key not in known:
                raise ValueError(f"claim {name!r}: {unknown('key', key, known)}")
        for kind, value, among in (
            ("study", entry.get("study"), STUDIES),
            ("table", entry.get("table"), TABLES),
            ("expects", entry.get("expects"), _EXPECTS),
        ):
            if value not in among:
                raise ValueError(f"claim {name!r}: {unknown(kind, value, among)}")
        if name in made:
            raise ValueError(f"claim {name!r} stands twice")
        sides = {side: _entries(entry[side], content["roles"]) for side in ("high", "low", "where") if side in entry}
        made[name] = Claim(**{**entry, **sides})
    return made


def judge(study: str, profile: str, results: Results | None) -> list[Verdict]:
    """The verdicts on all claims that a study judges.

    Args:
        study: a name in `lkd.study.chapters.STUDIES`.
        profile: the scale of the results.
        results: of that study; None where it was not run.

    Raises:
        KeyError: an unknown study, with the nearest known one.
    """
    if study not in STUDIES:
        raise KeyError(unknown("study", study, STUDIES))
    mine = [claim for claim in claims().values() if claim.study == study]
    tables = {name: _table(name, results) for name in {claim.table for claim in mine}}
    found = {claim.id: _effect(claim, tables[claim.table]) for claim in mine}
    raw = {claim.id: claim.p_values(seen) for claim in mine if (seen := found[claim.id]) and seen.error > 0}
    corrected = _holm({name: min(pair) for name, pair in raw.items()})
    verdicts = []
    for claim in mine:
        seen, p = found[claim.id], corrected.get(claim.id, math.nan)
        if seen is None:
            verdicts.append(Verdict(claim=claim, profile=profile, word="not run"))
            continue
        verdict = Verdict(claim=claim, profile=profile, word="inconclusive", found=seen, p=p)
        if not verdict.trained_once:
            if p < LEVEL:
                expected, contrary = raw[claim.id]
                verdict = replace(verdict, word="supported" if expected < contrary else "contradicted")
            else:
                verdict = replace(verdict, times=_times(claim, seen))
        verdicts.append(verdict)
    return verdicts


def ledger(profile: str, store: Store) -> list[Verdict]:
    """The verdicts on all claims that a profile's runs in a store allow.

    Raises:
        FileNotFoundError, OSError, ValueError: a run that is damaged; names the file and the remedy.
    """
    return [verdict for name, study in STUDIES.items() for verdict in judge(name, profile, study(profile).find(store))]


def ledger_of_readable(profile: str, store: Store) -> tuple[list[Verdict], list[str]]:
    """The verdicts as `ledger` gives them, "not run" where a run of the study, or what was measured on it, is damaged.

    Returns:
        The verdicts; and for each damaged file one line that names it and the remedy.
    """
    verdicts: list[Verdict] = []
    faults: dict[str, None] = {}
    for name, study in STUDIES.items():
        asked = study(profile)
        try:
            verdicts += judge(name, profile, asked.find(store))
        except (OSError, ValueError) as error:
            faults[str(error)] = None
            verdicts += judge(name, profile, None)
    return verdicts, list(faults)


def verdict_table(study: str, profile: str, results: Results | None) -> Table:
    """The verdicts of a study as a table of a chapter."""
    caption = "Verdicts, by rules that were fixed before the runs, but for three changes that the first page names."
    return Table(table_of(judge(study, profile, results)), f"verdicts-{study}", caption)


def table_of(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row a verdict: the claim, the word, and the difference with its uncertainty."""
    return pd.DataFrame([_row(verdict) for verdict in verdicts])


def _row(verdict: Verdict) -> dict[str, Any]:
    claim, found = verdict.claim, verdict.found
    low, high = found.interval() if found else (math.nan, math.nan)
    sign = {"above": ">", "below": "<", "within": "within ±"}[claim.expects]
    return {
        "claim": claim.says,
        "verdict": verdict.word,
        "difference": found.mean if found else math.nan,
        "95 % low": low,
        "95 % high": high,
        "unit": claim.unit,
        "expected": f"{sign} {claim.margin:g}".replace("± ", "±"),
        "p (Holm)": verdict.p,
        "teacher instances": found.teacher_seeds if found else 0,
        "student seeds": found.seeds if found and not claim.once else 0,
        "times as many needed": verdict.times,
        "paper": claim.paper,
        "place": claim.place,
        "profile": profile_name(verdict.profile),
        "id": claim.id,
    }


def _table(name: str, results: Results | None) -> pd.DataFrame | None:
    """A table of results, or None where there are none or something was not measured on them."""
    try:
        return None if results is None else TABLES[name](results)
    except WithoutWeightsError:
        return None


def _effect(claim: Claim, table: pd.DataFrame | None) -> Effect | None:
    """The difference, or None where the table lacks a side of it."""
    try:
        return None if table is None else claim.effect(table)
    except LackingError:
        return None


def _holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction."""
    corrected, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = largest
    return corrected


def _times(claim: Claim, found: Effect) -> float:
    """How many times as much of everything would decide it: the normal approximation of a test's power."""
    margins = (-claim.margin, claim.margin) if claim.expects == "within" else (claim.margin,)
    distance = min(abs(found.mean - margin) for margin in margins)
    if not distance or not found.error > 0:
        return math.nan
    return max(2, math.ceil(((stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER)) * found.error / distance) ** 2))


def _entries(side: Mapping[str, Any], roles: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {column: roles[names] if isinstance(names, str) else names for column, names in side.items()}
