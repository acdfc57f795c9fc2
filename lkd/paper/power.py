"""Power of a design, computed before its runs from the variances of earlier runs.

`python -m lkd.paper.power` writes the table of the page of methods.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lkd.paper.claims import Claim, claims
from lkd.paper.verdicts import LEVEL, POWER
from lkd.profiles import Profile
from lkd.recipe import Recipe
from lkd.runs.published import published
from lkd.study.chapters import STUDIES, TABLES
from lkd.study.compare import MissingRowsError, crossed, shares
from lkd.util.files import PUBLISHED, replacing

EARLIER, DESIGN = "exploratory", "reference"
FILE = PUBLISHED / "power.csv"
_STUDIES = 2000
"""Number of simulated studies for the coverage of a claim's interval."""


def power_table(earlier: str = EARLIER, design: str = DESIGN) -> pd.DataFrame:
    """Expected precision of a design, one row per claim that the earlier runs have.

    `error` is the expected standard error, from the variances of the earlier runs and the design's numbers of instances
    and seeds. `detectable` is the difference found with a power of 0.8 (normal approximation, before the correction for
    several claims), `equivalence` the probability to find no difference that matters if there is none, and `coverage`
    the coverage of the 95 % interval in 2,000 simulated studies.

    Args:
        earlier: a profile with published records.
        design: the profile of the design.
    """
    return pd.DataFrame([_row(claim, parts, *_size(claim, design)) for claim, _, parts in published_shares(earlier)])


def published_shares(profile: str) -> Iterator[tuple[Claim, pd.DataFrame, np.ndarray]]:
    """Yield each claim that a profile's published records cover, with its rows and `shares`."""
    store = published(profile)
    found = {name: study(profile).find(store) for name, study in STUDIES.items()}
    tables: dict[tuple[str, str], pd.DataFrame] = {}
    for claim in claims().values():
        if (results := found[claim.study]) is None:
            continue
        key = claim.study, claim.table
        tables[key] = tables[key] if key in tables else TABLES[claim.table](results)
        with suppress(MissingRowsError):
            rows = claim.rows(tables[key])
            parts = shares(rows, claim.value, claim.high, claim.low)
            yield claim, rows, parts


def _row(claim: Claim, parts: np.ndarray, instances: int, seeds: int) -> dict[str, Any]:
    of_instances, of_seeds = _variances(parts)
    error = float((of_instances.sum() / instances + of_seeds / seeds) ** 0.5)
    sure, likely = stats.norm.ppf(1 - LEVEL / 2), stats.norm.ppf(POWER)
    equivalence = max(0.0, 2 * stats.norm.cdf(claim.matters / error - stats.norm.ppf(1 - LEVEL)) - 1)
    return {
        "claim": claim.id,
        "family": claim.family,
        "instances": instances,
        "seeds": seeds,
        "error": round(error, 3),
        "matters": claim.matters,
        "detectable": round(float((sure + likely) * error), 2),
        "equivalence": round(float(equivalence), 2),
        "coverage": round(_coverage(of_instances, of_seeds, instances, seeds), 3),
    }


def _variances(parts: np.ndarray) -> tuple[np.ndarray, float]:
    """Variances of each architecture's instances and of the seeds; 0 for a factor with a single level."""
    _, instances, seeds = parts.shape
    of_instances = parts.mean(2).var(1, ddof=1) if instances > 1 else np.zeros(len(parts))
    return of_instances, float(parts.sum(0).mean(0).var(ddof=1)) if seeds > 1 else 0.0


def _coverage(of_instances: np.ndarray, of_seeds: float, instances: int, seeds: int) -> float:
    """Coverage of the 95 % interval in simulated studies without a true difference."""
    draw, teachers = np.random.default_rng(0), len(of_instances)
    covered = 0
    for _ in range(_STUDIES):
        own = draw.normal(size=(teachers, instances)) * of_instances[:, None] ** 0.5
        shared = draw.normal(size=seeds) * of_seeds**0.5 / teachers
        low, high = crossed(own[..., None] + shared).interval()
        covered += low <= 0 <= high
    return covered / _STUDIES


def _size(claim: Claim, design: str) -> tuple[int, int]:
    """Numbers of teacher instances and student seeds of a claim in a design."""
    distilled = [recipe for recipe in STUDIES[claim.study](design).recipes if isinstance(recipe.teacher, Recipe)]
    instances = {recipe.teacher.seed for recipe in distilled if isinstance(recipe.teacher, Recipe)}
    return len(instances), 1 if claim.once else len({recipe.seed for recipe in distilled})


if __name__ == "__main__":
    Profile.load(DESIGN)
    with replacing(FILE) as temporary:
        power_table().to_csv(temporary, index=False)
