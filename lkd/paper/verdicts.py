"""Verdicts: the decision of each claim's rule on a profile's runs.

A claim is *supported* or *contradicted* if its difference is significantly on the expected side or on the other one;
there is *no difference that matters* if it is significantly smaller than the smallest effect of interest, even if it is
not 0; *not decided* otherwise, also without repetitions; and *not run* if a run is missing. P-values are
corrected by Holm's method over the primary claims, and by Benjamini and Hochberg's over the secondary ones, at 0.05.
Claims that were not run count as undecided in their family.

A difference between teachers that were trained once each is *not decided* at any p-value, because it may be due to the
random seeds of their training; such claims do not count in their family.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy import stats

from lkd.paper.claims import FAMILIES, NO_DIFFERENCE, Claim, claims
from lkd.paper.registry import is_confirmatory
from lkd.profiles import profile_name
from lkd.runs.store import Store
from lkd.study import Effect, Results
from lkd.study.chapters import STUDIES, TABLES
from lkd.study.compare import MissingRowsError
from lkd.study.measure import NotMeasuredError
from lkd.tables import Table
from lkd.util.checks import unknown

LEVEL = 0.05
POWER = 0.8
_SHOWN = ("claim", "verdict", "difference", "95 % low", "95 % high", "unit", "p", "kind")
"""Columns of a chapter's table of verdicts."""
NOT_DECIDED, NOT_RUN = "not decided", "not run"
VERDICTS = ("supported", "contradicted", NO_DIFFERENCE, NOT_DECIDED, NOT_RUN)

Found = Mapping[str, Results | None]
"""The results of each study, by its name; None if a run is missing."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict of a profile's runs on a claim.

    Attributes:
        claim: the claim.
        profile: the scale, for `Profile.load`.
        word: one of `VERDICTS`.
        found: the difference; None if not run.
        p: the smallest p-value of a decision, corrected over the family, or NaN.
        confirmatory: whether the rule is older than its runs, and their seeds are new; otherwise it is exploratory.
        times: for a claim that is not decided, the factor of teacher instances and student seeds that decides it with a
            power of 0.8 if the true difference equals the observed one (normal approximation, before correction); NaN
            for other verdicts, and for teachers that were trained once.
    """

    claim: Claim
    profile: str
    word: str
    found: Effect | None = None
    p: float = math.nan
    confirmatory: bool = False
    times: float = math.nan

    @property
    def trained_once(self) -> bool:
        """Whether it compares teachers that were trained once each, which cannot decide it."""
        return self.found is not None and self.found.teacher_seeds < 2 and self.claim.between_teachers


def judge_all(profile: str, results: Found) -> list[Verdict]:
    """Judge all claims.

    Args:
        profile: the scale of the results.
        results: results of each study in `lkd.study.chapters.STUDIES`; a missing study was not run.

    Raises:
        KeyError: an unknown study, with the nearest known one.
    """
    for study in results:
        if study not in STUDIES:
            raise KeyError(unknown("study", study, STUDIES))
    every = claims()
    tables: dict[tuple[str, str], pd.DataFrame | None] = {}
    for claim in every.values():
        if (key := (claim.study, claim.table)) not in tables:
            tables[key] = _table(claim.table, results.get(claim.study))
    found = {name: _effect(claim, tables[claim.study, claim.table]) for name, claim in every.items()}
    raw = {name: every[name].p_values(seen) for name, seen in found.items() if seen is not None and seen.error > 0}
    once = {name for name, seen in found.items() if seen and seen.teacher_seeds < 2 and every[name].between_teachers}
    corrected = _corrected(raw, once)
    verdicts = []
    for name, claim in every.items():
        if (seen := found[name]) is None:
            verdicts.append(Verdict(claim=claim, profile=profile, word=NOT_RUN))
            continue
        given = results[claim.study]
        assert given is not None
        p, word = corrected.get(name, math.nan), NOT_DECIDED
        if p < LEVEL:
            word = _decision(raw[name], p)
        verdicts.append(
            Verdict(
                claim=claim,
                profile=profile,
                word=word,
                found=seen,
                p=p,
                confirmatory=is_confirmatory(claim, profile, given),
                times=_times(claim, seen) if word == NOT_DECIDED and name in corrected else math.nan,
            )
        )
    return verdicts


def judge(profile: str, results: Found) -> list[Verdict]:
    """Judge the claims of some studies; results of the other studies come from the same store.

    Args:
        profile: the scale of the results.
        results: results of the studies, by their names in `lkd.study.chapters.STUDIES`.

    Raises:
        KeyError: an unknown study, with the nearest known one.

    Example:
        >>> from lkd.paper.verdicts import judge
        >>> judge("smoke", {"teacher_size": None})[0].word
        'not run'
    """
    runs = next((found.runs for found in results.values() if found is not None), None)
    others = {} if runs is None else _found(profile, Store(runs[0].path.parent.parent))
    return [verdict for verdict in judge_all(profile, {**others, **results}) if verdict.claim.study in results]


def ledger(profile: str, store: Store) -> list[Verdict]:
    """Judge all claims by a profile's runs in a store.

    Raises:
        FileNotFoundError, OSError, ValueError: a damaged run; the message names the file and the remedy.
    """
    return judge_all(profile, _found(profile, store))


def ledger_of_readable(profile: str, store: Store) -> tuple[list[Verdict], list[str]]:
    """Judge all claims like `ledger`, with "not run" for studies with damaged runs or measurements.

    Returns:
        The verdicts, and one line per damaged file with its name and the remedy.
    """
    results: dict[str, Results | None] = {}
    faults: dict[str, None] = {}
    for name, study in STUDIES.items():
        built = study(profile)
        try:
            found = built.find(store)
            for table in {claim.table for claim in claims().values() if claim.study == name}:
                _table(table, found)
            results[name] = found
        except (OSError, ValueError) as error:
            faults[str(error)] = None
    return judge_all(profile, results), list(faults)


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Verdicts as a table of a chapter."""
    caption = (
        "Verdicts, corrected within each family of claims; confirmatory runs are newer than their rule: see Methods."
    )
    return Table(table_of(verdicts), "verdicts", caption, shown=_SHOWN)


def table_of(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row per verdict: the claim, the word, and the difference with its uncertainty."""
    return pd.DataFrame([_row(verdict) for verdict in verdicts])


def _row(verdict: Verdict) -> dict[str, Any]:
    claim, found = verdict.claim, verdict.found
    (low, high), (low90, high90) = (found.interval(level) if found else (math.nan, math.nan) for level in (0.95, 0.9))
    return {
        "claim": claim.says,
        "verdict": verdict.word,
        "kind": "" if found is None else "confirmatory" if verdict.confirmatory else "exploratory",
        "difference": found.mean if found else math.nan,
        "95 % low": low,
        "95 % high": high,
        "90 % low": low90,
        "90 % high": high90,
        "unit": claim.unit,
        "expected": claim.expected,
        "family": claim.family,
        "p": verdict.p,
        "teacher instances": found.teacher_seeds if found else 0,
        "student seeds": found.seeds if found and not claim.once else 0,
        "times as many needed": verdict.times,
        "paper": claim.paper,
        "place": claim.place,
        "profile": profile_name(verdict.profile),
        "id": claim.id,
    }


def _found(profile: str, store: Store) -> Found:
    return {name: study(profile).find(store) for name, study in STUDIES.items()}


def _table(name: str, results: Results | None) -> pd.DataFrame | None:
    """A table of results, or None without results or without a measurement."""
    try:
        return None if results is None else TABLES[name](results)
    except NotMeasuredError:
        return None


def _effect(claim: Claim, table: pd.DataFrame | None) -> Effect | None:
    """The difference, or None if the table is missing a side of it."""
    try:
        return None if table is None else claim.effect(table)
    except MissingRowsError:
        return None


def _corrected(raw: Mapping[str, Mapping[str, float]], undecidable: Collection[str]) -> dict[str, float]:
    """Smallest p-values of the claims, corrected over their families, which leave out undecidable claims."""
    smallest = {
        name: (claim.family, min(raw.get(name, {"": 1.0}).values()))
        for name, claim in claims().items()
        if name not in undecidable
    }
    primary, secondary = ({name: p for name, (family, p) in smallest.items() if family == each} for each in FAMILIES)
    found_later = dict(zip(secondary, stats.false_discovery_control([*secondary.values()]), strict=True))
    return {name: float(p) for name, p in {**holm(primary), **found_later}.items() if name in raw}


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction.

    Example:
        >>> from lkd.paper.verdicts import holm
        >>> holm({"a": 0.01, "b": 0.5, "c": 0.02})
        {'a': 0.03, 'c': 0.04, 'b': 0.5}
    """
    corrected, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = largest
    return corrected


def _decision(p_values: Mapping[str, float], corrected: float) -> str:
    """The decision at a corrected p-value below the level; "no difference that matters" goes before the others."""
    factor = corrected / min(p_values.values()) if min(p_values.values()) else 1.0
    significant = {word: p for word, p in p_values.items() if p * factor < LEVEL}
    return NO_DIFFERENCE if NO_DIFFERENCE in significant else min(significant, key=significant.__getitem__)


def _times(claim: Claim, found: Effect) -> float:
    """Factor of replicates to decide a claim, by the normal approximation of a test's power."""
    mean, m = found.mean, claim.matters
    outcomes = {
        "above": [(abs(mean), LEVEL / 2), (m - abs(mean), LEVEL)],
        "below": [(abs(mean), LEVEL / 2), (m - abs(mean), LEVEL)],
        "within": [(m - abs(mean), LEVEL), (abs(mean) - m, LEVEL / 2)],
        "at most": [(abs(mean - m), LEVEL)],
    }[claim.expects]
    factors = [
        ((stats.norm.ppf(1 - level) + stats.norm.ppf(POWER)) * found.error / distance) ** 2
        for distance, level in outcomes
        if distance > 0 and found.error > 0
    ]
    return max(2, math.ceil(min(factors))) if factors else math.nan
