"""Claims of the papers, the rules that judge them, and the verdicts.

A rule names a mean difference in a table and its expected side of a margin. The null hypothesis is a difference equal
to the margin. A claim is *supported* if the difference is on the expected side with a p-value below 0.05 after Holm's
correction over all claims of the same study; *contradicted* if it is on the other side with such a p-value; *not run*
if the store is missing a run; and *inconclusive* otherwise, also without repetitions or variation. For a difference
that should lie within a margin, the p-value is that of two one-sided tests, and a difference significantly outside
contradicts the claim.

A difference between teachers that were trained once each is *inconclusive* at any p-value, because the luck of one
training cannot be told from the merit of a teacher. (This was added after the first results of the `small` profile; it
can only weaken a verdict.)
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
from lkd.study.compare import MissingRowsError
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
    """A statement of a paper and the rule that judges it; `claims.yaml` explains the fields."""

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
        """Whether it compares teachers."""
        return bool(self.low and {"teacher", "kernel", "size"} & set(self.low))

    def effect(self, table: pd.DataFrame) -> Effect:
        """The difference of the rule in a table of results.

        Raises:
            MissingRowsError: rows of the comparison are missing.
        """
        for column, entries in (self.where or {}).items():
            table = table[table[column].isin(list(entries))]
        if self.once:
            table = table.drop_duplicates([*self.high, "teacher_seed"]).assign(seed=0)
        return effect(table, self.value, self.high, self.low)

    def p_values(self, found: Effect) -> tuple[float, float]:
        """p-values of the expected difference and of the opposite one."""
        ends = [stats.t.sf((found.mean - end) / found.error, found.freedom) for end in (-self.margin, self.margin)]
        above_low, above_high = (float(p) for p in ends)
        if self.expects == "within":
            return max(above_low, 1 - above_high), 2 * min(1 - above_low, above_high)
        if self.expects == "above":
            return 2 * above_high, 2 * (1 - above_high)
        return 2 * (1 - above_high), 2 * above_high


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict of a profile's runs on a claim.

    Attributes:
        claim: the claim.
        profile: the scale, as `Profile.load` accepts it.
        word: one of `VERDICTS`.
        found: the difference; None if not run.
        p: p-value after Holm's correction, or NaN.
        times: for inconclusive verdicts, the factor by which teacher instances and student seeds would have to grow to
            decide the claim with a power of 0.8, if the true difference equals the observed one (normal approximation,
            before Holm's correction); NaN for other verdicts, and for teachers that were trained once.
    """

    claim: Claim
    profile: str
    word: str
    found: Effect | None = None
    p: float = math.nan
    times: float = math.nan

    @property
    def trained_once(self) -> bool:
        """Whether it compares teachers that were trained once each, which cannot decide it."""
        return self.found is not None and self.found.teacher_seeds < 2 and self.claim.between_teachers


@cache
def claims() -> dict[str, Claim]:
    """All claims, by id.

    Raises:
        ValueError: an invalid claim; the message names it and the problem.

    Example:
        >>> from lkd.paper.claims import claims
        >>> claims()["logits-help-at-all"].paper
        'L2S'
    """
    return read_claims(_FILE)


def read_claims(path: Path) -> dict[str, Claim]:
    """Read the claims of a file; see `claims`."""
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
            raise ValueError(f"claim {name!r} is defined twice")
        sides = {side: _entries(entry[side], content["roles"]) for side in ("high", "low", "where") if side in entry}
        made[name] = Claim(**{**entry, **sides})
    return made


def judge(study: str, profile: str, results: Results | None) -> list[Verdict]:
    """Judge all claims of a study.

    Args:
        study: a name in `lkd.study.chapters.STUDIES`.
        profile: the scale of the results.
        results: results of the study; None if it was not run.

    Raises:
        KeyError: an unknown study, with the nearest known one.
    """
    if study not in STUDIES:
        raise KeyError(unknown("study", study, STUDIES))
    judged = [claim for claim in claims().values() if claim.study == study]
    tables = {name: _table(name, results) for name in {claim.table for claim in judged}}
    found = {claim.id: _effect(claim, tables[claim.table]) for claim in judged}
    raw = {claim.id: claim.p_values(seen) for claim in judged if (seen := found[claim.id]) and seen.error > 0}
    corrected = _holm({name: min(pair) for name, pair in raw.items()})
    verdicts = []
    for claim in judged:
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
    """Judge all claims by a profile's runs in a store.

    Raises:
        FileNotFoundError, OSError, ValueError: a damaged run; the message names the file and the remedy.
    """
    return [verdict for name, study in STUDIES.items() for verdict in judge(name, profile, study(profile).find(store))]


def ledger_of_readable(profile: str, store: Store) -> tuple[list[Verdict], list[str]]:
    """Judge all claims like `ledger`, with "not run" for studies with damaged runs or measurements.

    Returns:
        The verdicts, and one line per damaged file with its name and the remedy.
    """
    verdicts: list[Verdict] = []
    faults: dict[str, None] = {}
    for name, study in STUDIES.items():
        built = study(profile)
        try:
            verdicts += judge(name, profile, built.find(store))
        except (OSError, ValueError) as error:
            faults[str(error)] = None
            verdicts += judge(name, profile, None)
    return verdicts, list(faults)


def verdict_table(study: str, profile: str, results: Results | None) -> Table:
    """The verdicts of a study as a table of a chapter."""
    caption = "Verdicts by rules fixed before the runs; the first page lists three later changes."
    return Table(table_of(judge(study, profile, results)), f"verdicts-{study}", caption)


def table_of(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row per verdict: the claim, the word, and the difference with its uncertainty."""
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
    """A table of results, or None without results or without a measurement."""
    try:
        return None if results is None else TABLES[name](results)
    except WithoutWeightsError:
        return None


def _effect(claim: Claim, table: pd.DataFrame | None) -> Effect | None:
    """The difference, or None if the table is missing a side of it."""
    try:
        return None if table is None else claim.effect(table)
    except MissingRowsError:
        return None


def _holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction."""
    corrected, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = largest
    return corrected


def _times(claim: Claim, found: Effect) -> float:
    """Factor of replicates that would decide a claim, by the normal approximation of a test's power."""
    margins = (-claim.margin, claim.margin) if claim.expects == "within" else (claim.margin,)
    distance = min(abs(found.mean - margin) for margin in margins)
    if not distance or not found.error > 0:
        return math.nan
    return max(2, math.ceil(((stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER)) * found.error / distance) ** 2))


def _entries(side: Mapping[str, Any], roles: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {column: roles[names] if isinstance(names, str) else names for column, names in side.items()}
