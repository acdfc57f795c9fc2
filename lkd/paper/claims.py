"""Claims of the papers and the rules that decide them; `lkd.paper.verdicts` applies the rules.

A rule consists of a mean difference in a table of results, its expected sign, and the smallest effect of interest. For
confirmatory runs, all three were fixed before the runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from scipy import stats

from lkd.study import Effect, effect
from lkd.study.chapters import STUDIES, TABLES
from lkd.study.compare import ARCHITECTURE
from lkd.util.checks import unknown
from lkd.util.files import json_digest
from lkd.util.old_names import renamed

SUPPORTED, CONTRADICTED, NO_DIFFERENCE = "supported", "contradicted", "no difference that matters"
FAMILIES = ("primary", "secondary")
EXPECTED = ("above", "below", "within", "at most")
_FILE = Path(__file__).with_name("claims.yaml")
_WORDING = ("paper", "place", "known", "says")
"""Fields of a claim that are not part of its rule."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of a paper and the rule that decides it; `claims.yaml` explains the fields."""

    id: str
    paper: str
    place: str
    known: str
    family: str
    says: str
    study: str
    table: str
    value: str
    unit: str
    high: Mapping[str, Sequence[str]]
    expects: str
    matters: float
    low: Mapping[str, Sequence[str]] | None = None
    where: Mapping[str, Sequence[str]] | None = None
    once: bool = False

    @property
    def between_teachers(self) -> bool:
        """Whether it compares teachers."""
        return bool(self.low and set(ARCHITECTURE) & set(self.low))

    @property
    def expected(self) -> str:
        """The expected difference with the smallest effect of interest, "> 0 (0.25)" for example."""
        signs = {"above": "> 0 ({})", "below": "< 0 ({})", "within": "within ±{}", "at most": "< {}"}
        return signs[self.expects].format(f"{self.matters:g}")

    @property
    def digest(self) -> str:
        """8 hexadecimal digits that identify the rule, without the wording of the claim."""
        rule = {name: value for name, value in asdict(self).items() if name not in _WORDING}
        return json_digest(rule)[:8]

    def effect(self, table: pd.DataFrame) -> Effect:
        """The difference of the rule in a table of results.

        Raises:
            MissingRowsError: rows of the comparison are missing.
        """
        return effect(self.rows(table), self.value, self.high, self.low)

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table of results that the rule compares."""
        for column, entries in (self.where or {}).items():
            table = table[table[column].isin(list(entries))]
        return table.drop_duplicates([*self.high, "teacher_seed"]).assign(seed=0) if self.once else table

    def p_values(self, found: Effect) -> dict[str, float]:
        """The p-value of each decision, by its word.

        With `matters` m, the null hypotheses are: for "above" and "below", a difference of 0 (two-sided) and, for "no
        difference that matters", one of at least m in size (two one-sided tests); for "within", a difference of at
        least m in size and, for "contradicted", of at most m; for "at most", a difference of at least m, or of at most
        m.
        """

        def over(limit: float) -> float:
            return float(stats.t.sf((found.mean - limit) / found.error, found.freedom))

        m = self.matters
        within = max(over(-m), 1 - over(m))
        if self.expects == "within":
            return {SUPPORTED: within, CONTRADICTED: 2 * min(1 - over(-m), over(m))}
        if self.expects == "at most":
            return {SUPPORTED: 1 - over(m), CONTRADICTED: over(m)}
        up, down = 2 * over(0), 2 * (1 - over(0))
        expected, contrary = (up, down) if self.expects == "above" else (down, up)
        return {NO_DIFFERENCE: within, SUPPORTED: expected, CONTRADICTED: contrary}


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
            ("family", entry.get("family"), FAMILIES),
            ("expects", entry.get("expects"), EXPECTED),
        ):
            if value not in among:
                raise ValueError(f"claim {name!r}: {unknown(kind, value, among)}")
        if name in made:
            raise ValueError(f"claim {name!r} is defined twice")
        if not entry["matters"] > 0:
            raise ValueError(f"claim {name!r}: matters must be above 0, got {entry['matters']!r}")
        sides = {side: _entries(entry[side], content["roles"]) for side in ("high", "low", "where") if side in entry}
        made[name] = Claim(**{**entry, **sides})
    return made


def _entries(side: Mapping[str, Any], roles: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {column: roles[names] if isinstance(names, str) else names for column, names in side.items()}


_OLD_NAMES = {
    name: f"lkd.paper.verdicts:{name}" for name in ("Verdict", "VERDICTS", "ledger", "ledger_of_readable", "table_of")
}


def __getattr__(name: str) -> Any:
    return renamed(__name__, name, _OLD_NAMES)
