"""Verdicts as plain values, for `lkd claims` and `lkd.runs.result_cache`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lkd.paper.verdicts import Verdict, ledger_of_readable
from lkd.profiles import Profile
from lkd.profiles.profile_files import find_profile, read_files
from lkd.runs.result_cache import cache_result, input_digests
from lkd.runs.store import Store
from lkd.study.chapters import STUDIES

Rows = list[dict[str, Any]]


def rows_of(verdicts: Iterable[Verdict]) -> Rows:
    """One mapping per verdict: claim, verdict, unit, mean and 95 % interval, with None for claims that were not run.

    Example:
        >>> from lkd.paper.verdicts import judge
        >>> from lkd.paper.verdict_rows import rows_of
        >>> rows_of(judge("smoke", {"teacher_size": None}))[0]["verdict"]
        'not run'
    """
    return [_row(verdict) for verdict in verdicts]


def judge_runs(profile: str, home: Path) -> tuple[Rows, list[str]]:
    """Judge all claims by the runs of a store, and cache the verdicts.

    Args:
        profile: the scale, by its name or YAML file.
        home: lkd's home.

    Returns:
        The verdicts, and one line per damaged file with the remedy. Verdicts with damaged files are not cached.

    Raises:
        KeyError: an unknown profile, with the nearest known name.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lkd.paper.verdict_rows import judge_runs
        >>> rows, faults = judge_runs("smoke", Path(tempfile.mkdtemp()))
        >>> rows[0]["verdict"], faults
        ('not run', [])
    """
    Profile.load(profile)
    store = Store(home)
    runs = {store.path(recipe) for study in STUDIES.values() for recipe in study(profile).recipes}
    found = input_digests([*(path for path, _ in read_files(find_profile(profile))), *sorted(runs)])
    verdicts, faults = ledger_of_readable(profile, store)
    rows = rows_of(verdicts)
    if not faults:
        cache_result(home, "claims", profile, found, rows)
    return rows, faults


def _row(verdict: Verdict) -> dict[str, Any]:
    found = verdict.found
    low, high = found.interval() if found else (None, None)
    mean = found.mean if found else None
    return {
        "claim": verdict.claim.id,
        "verdict": verdict.word,
        "unit": verdict.claim.unit,
        "mean": mean,
        "low": low,
        "high": high,
    }
