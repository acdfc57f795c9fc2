"""A second analysis of the claims by a mixed model, which decides no verdict.

`python -m lkd.paper.sensitivity PROFILE` writes the table of the page of methods; it needs statsmodels.

`lkd.study.effect` estimates a variance of the instances for each architecture, from few instances. The mixed model
assumes one variance for all architectures: intervals are narrower if this holds, and wrong if not.
"""

import math
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from lkd.paper.claims import Claim
from lkd.paper.power import published_shares
from lkd.study import Effect
from lkd.study.compare import crossed, shares
from lkd.util.files import PUBLISHED, replacing

FILE = PUBLISHED / "sensitivity.csv"
_STUDIES = 200
"""Number of simulated studies for a coverage."""


def mixed(parts: np.ndarray, weights: np.ndarray) -> Effect:
    """The effect of a crossed design by a mixed model with common variances, fitted by REML.

    The value of architecture `a`, instance `i` and seed `s` is `parts[a, i, s] / weights[a] = m_a + u_ai + v_s + e_ais`
    with fixed `m_a` and normal `u`, `v` and `e`; the effect is `sum_a weights[a] m_a`, with a normal interval, or with
    Student's if only the residual `e` is left.

    Args:
        parts: result of `lkd.study.compare.shares`, shape (architectures, instances, seeds).
        weights: weight of each architecture in the difference.

    Returns:
        The effect; its error is NaN without repetitions, or if the fit fails.

    Example:
        >>> import numpy as np
        >>> from lkd.paper.sensitivity import mixed
        >>> parts = np.random.default_rng(0).normal(size=(2, 4, 4)) * [[[0.5]], [[-0.5]]]
        >>> bool(abs(mixed(parts, np.array([0.5, -0.5])).mean - parts.mean((1, 2)).sum()) < 1e-6)
        True
    """
    from statsmodels.api import OLS
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

    architectures, instances, seeds = parts.shape
    a, i, s = (each.ravel() for each in np.indices(parts.shape))
    values, fixed = (parts / weights[:, None, None]).ravel(), np.eye(architectures)[a]
    nothing = Effect(float(parts.mean((1, 2)).sum()), math.nan, 0, instances, seeds)
    if values.size == architectures:
        return nothing
    factors = {"instance": (a * instances + i, instances), "seed": (s, seeds)}
    levels = {name: np.eye(level.max() + 1)[level] for name, (level, count) in factors.items() if count > 1}
    levels = {name: each for name, each in levels.items() if each.shape[1] < values.size}  # others are the residual
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of variances estimated as 0
        try:
            if levels:
                columns = [[[f"{name} {number}" for number in range(each.shape[1])]] for name, each in levels.items()]
                random = VCSpec(list(levels), columns, [[each] for each in levels.values()])
                fit = MixedLM(values, fixed, np.zeros(values.size), exog_vc=random).fit(reml=True)
                freedom = math.inf
            else:
                fit = OLS(values, fixed).fit()
                freedom = fit.df_resid
            found = fit.t_test(weights[None])
        except np.linalg.LinAlgError:
            return nothing
    return Effect(float(np.ravel(found.effect)[0]), float(np.ravel(found.sd)[0]), freedom, instances, seeds)


def weights_of(claim: Claim, rows: pd.DataFrame) -> np.ndarray:
    """Weight of each teacher architecture in the difference of a claim, in the order of `shares`."""
    sides = shares(rows.assign(one=np.where(rows[claim.value].isna(), np.nan, 1.0)), "one", claim.high, claim.low)
    weights = sides[:, 0, 0]
    return np.where(np.isclose(weights, 0), 1 / len(weights), weights)


def sensitivity_table(profile: str) -> pd.DataFrame:
    """Both analyses of a profile's published records, one row per claim.

    Columns: `difference`, `low` and `high` of `lkd.study.effect`, the same of the mixed model, and for primary claims
    the coverage of both 95 % intervals in 200 simulated studies with the variances of the records.

    Args:
        profile: a profile with published records.
    """
    return pd.DataFrame(_rows(profile))


def _rows(profile: str) -> Iterator[dict[str, Any]]:
    for claim, rows, parts in published_shares(profile):
        weights = weights_of(claim, rows)
        ours, other = crossed(parts), mixed(parts, weights)
        row: dict[str, Any] = {"claim": claim.id, "family": claim.family}
        for name, each in (("", ours), ("mixed ", other)):
            row |= dict(zip((f"{name}difference", f"{name}low", f"{name}high"), _ends(each), strict=True))
        both = _coverages(parts, weights) if claim.family == "primary" else (math.nan, math.nan)
        yield {**row, "coverage": both[0], "mixed coverage": both[1]}


def _ends(effect: Effect) -> list[float]:
    return [round(value, 2) for value in (effect.mean, *effect.interval())]


def _coverages(parts: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Coverage of both 95 % intervals, crossed and mixed, in simulated studies without a true difference."""
    draw = _simulation(parts / weights[:, None, None])
    random = np.random.default_rng(0)
    covered = np.zeros(2)
    for _ in range(_STUDIES):
        simulated = draw(random) * weights[:, None, None]
        for place, found in enumerate((crossed(simulated), mixed(simulated, weights))):
            low, high = found.interval()
            covered[place] += low <= 0 <= high
    crossed_share, mixed_share = covered / _STUDIES
    return round(float(crossed_share), 3), round(float(mixed_share), 3)


def _simulation(values: np.ndarray) -> Callable[[np.random.Generator], np.ndarray]:
    """A function that draws values without differences, with the variances of given ones.

    Instances keep a variance for each architecture, as the mixed model does not assume it.
    """
    _, instances, seeds = values.shape
    own = values - values.mean((1, 2), keepdims=True)
    of_instances, of_seeds = own.mean(2, keepdims=True), own.mean((0, 1), keepdims=True)
    residual = (own - of_instances - of_seeds).std()
    spread = of_instances.std(1, ddof=1, keepdims=True) if instances > 1 else np.zeros((len(values), 1, 1))
    shared = float(of_seeds.std(ddof=1)) if seeds > 1 else 0.0

    def drawn(random: np.random.Generator) -> np.ndarray:
        return (
            spread * random.normal(size=(len(values), instances, 1))
            + shared * random.normal(size=seeds)
            + residual * random.normal(size=values.shape)
        )

    return drawn


if __name__ == "__main__":
    with replacing(FILE) as temporary:
        sensitivity_table(sys.argv[1]).to_csv(temporary, index=False)
