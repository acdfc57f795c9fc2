"""The mixed model agrees with formulas of balanced designs; both analyses cover planted effects; about 8 seconds."""

import numpy as np
import pandas as pd
import pytest

from lkd.paper.claims import claims
from lkd.paper.sensitivity import mixed, weights_of
from lkd.study.compare import crossed, shares

WEIGHTS = np.array([0.5, 0.5, -1.0])


def design(random: np.random.Generator, effect: float = 0.0, instances: int = 6, seeds: int = 5) -> np.ndarray:
    """Parts of three architectures with equal variances of instances."""
    values = (
        0.4 * random.normal(size=(3, instances, 1))
        + 0.5 * random.normal(size=seeds)
        + 0.6 * random.normal(size=(3, instances, seeds))
    )
    values[:2] += effect
    return values * WEIGHTS[:, None, None]


def test_the_mixed_model_has_the_error_of_a_balanced_analysis_of_variance() -> None:
    parts = design(np.random.default_rng(3))
    values = parts / WEIGHTS[:, None, None]
    means = values.mean(2)
    within = ((means - means.mean(1, keepdims=True)) ** 2).sum() / (3 * 5)  # instances within architectures
    found = mixed(parts, WEIGHTS)
    assert found.mean == pytest.approx(parts.mean((1, 2)).sum(), abs=1e-6)
    assert found.error == pytest.approx((within / 6 * (WEIGHTS**2).sum()) ** 0.5, rel=0.02)  # seeds cancel


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.0, 0.5])
def test_both_intervals_cover_a_planted_effect(effect: float) -> None:
    random, covered = np.random.default_rng(7), np.zeros(2)
    for _ in range(100):
        parts = design(random, effect)
        for place, found in enumerate((crossed(parts), mixed(parts, WEIGHTS))):
            low, high = found.interval()
            covered[place] += low <= effect <= high
    assert (covered >= 88).all() and (covered <= 99).all()  # 95 of 100, with more than three standard errors


def test_with_one_instance_the_variance_is_that_of_the_seeds() -> None:
    parts = np.random.default_rng(0).normal(size=(1, 1, 30))
    found = mixed(parts, np.ones(1))
    assert (found.mean, found.error, found.freedom) == pytest.approx((parts.mean(), parts.std(ddof=1) / 30**0.5, 29))


def test_a_design_without_repetitions_has_no_interval() -> None:
    assert np.isnan(mixed(design(np.random.default_rng(0), instances=1, seeds=1), WEIGHTS).error)


def test_weights_are_those_of_the_sides_or_equal_within_teachers() -> None:
    rows = pd.DataFrame(
        [
            {"teacher": teacher, "teacher_seed": 0, "seed": 0, "objective": objective, "direct_gain": 1.0}
            for teacher in ("mini_slak", "mini_convnext", "mini_swin")
            for objective in ("kd", "nkd")
        ]
    )
    between, within = claims()["logits-modern-convnets-over-transformers"], claims()["logits-nkd-over-kd"]
    assert sorted(weights_of(between, rows)) == [-1.0, 0.5, 0.5]
    assert np.allclose(weights_of(within, within.rows(rows)), 1 / 3)
    assert shares(rows, "direct_gain", between.high, between.low).sum() == pytest.approx(0)
