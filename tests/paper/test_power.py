"""The power of a design, from the variances of earlier runs."""

import numpy as np
import pandas as pd
import pytest

from lkd.paper.claims import claims
from lkd.paper.power import FILE, _row, power_table

CLAIM = claims()["logits-modern-convnets-over-transformers"]


def simulated(instances: int, seeds: int) -> np.ndarray:
    """Shares of three teachers with instances of variance 0.04 each, and seeds of variance 0.09 in all."""
    draw = np.random.default_rng(0)
    own = draw.normal(0, 0.2, (3, instances, 1))
    return own + draw.normal(0, 0.3, seeds) / 3


def test_the_expected_error_follows_from_the_variances_and_numbers() -> None:
    """Three teachers of 4 instances and 9 seeds: sqrt(3 * 0.04 / 4 + 0.09 / 9) = 0.2."""
    row = _row(CLAIM, simulated(2000, 2000), 4, 9)
    assert row["error"] == pytest.approx(0.2, abs=0.01)
    assert row["detectable"] == pytest.approx((1.96 + 0.84) * 0.2, abs=0.03)
    assert 0.93 <= row["coverage"] <= 0.98


@pytest.mark.slow
def test_more_repetitions_make_equivalence_likelier() -> None:
    few, many = (_row(CLAIM, simulated(50, 50), count, count)["equivalence"] for count in (4, 400))
    assert few == 0 and many > 0.95


@pytest.mark.slow
def test_the_table_of_the_page_is_the_one_of_the_published_runs() -> None:
    """Costs 6 s."""
    pd.testing.assert_frame_equal(pd.read_csv(FILE), power_table().reset_index(drop=True), check_dtype=False)
