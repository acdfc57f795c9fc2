"""Gains by the paper's definitions, agreement, calibration, and Student's t interval."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lkd.metrics import agreement, calibration_error, direct_gain, effective_gain, spread


def test_gains_of_the_worked_example():
    """SLaK's README: ConvNeXt-T 82.1, distilled from SLaK-T (82.5) 83.1."""
    assert direct_gain(83.1, 82.1) == pytest.approx(1.0)
    assert round(100 * effective_gain(83.1, 82.1, 82.5), 2) == 1.21


def test_a_student_that_got_worse_has_negative_gains():
    assert direct_gain(70.0, 72.5) == -2.5 and effective_gain(70.0, 72.5, 50.0) == -0.05


def test_gains_of_columns_go_row_by_row():
    runs = pd.DataFrame({"distilled": [83.1, 60.0], "alone": [82.1, 62.0], "teacher": [82.5, 80.0]}, index=[7, 3])
    gains = effective_gain(runs.distilled, runs.alone, runs.teacher)
    assert list(gains.index) == [7, 3] and gains.tolist() == pytest.approx([1 / 82.5, -0.025])
    assert direct_gain(np.array([1.0, 2.0]), np.array([0.5, 4.0])).tolist() == [0.5, -2.0]


@pytest.mark.parametrize("wrong", [-0.1, 100.1, math.nan, [50.0, 101.0]])
@pytest.mark.parametrize("name", ["distilled", "student", "teacher"])
def test_what_is_no_percentage_is_refused_by_name(name, wrong):
    given = {"distilled": 50.0, "student": 50.0, "teacher": 50.0} | {name: np.array(wrong)}
    with pytest.raises(ValueError, match=f"{name} must be in percent, 0 to 100"):
        effective_gain(**given)
    if name != "teacher":
        del given["teacher"]
        with pytest.raises(ValueError, match=f"{name} must be in percent, 0 to 100"):
            direct_gain(**given)


@pytest.mark.parametrize("name", ["distilled", "student", "teacher"])
def test_a_share_instead_of_percent_is_doubted_by_name(name):
    given = {"distilled": 83.1, "student": 82.1, "teacher": 82.5}
    with pytest.warns(UserWarning, match=f"{name} is at most 1 percent, got 0.82: if .* multiply it by 100") as told:
        effective_gain(**given | {name: 0.82})
    assert [warning.filename for warning in told] == [__file__]


def test_rows_that_do_not_belong_together_are_refused():
    two, three = np.array([50.0, 60.0]), np.array([50.0, 60.0, 70.0])
    with pytest.raises(ValueError, match=r"distilled has shape \(2,\), student \(3,\)"):
        direct_gain(two, three)
    with pytest.raises(ValueError, match=r"student has shape \(2,\), teacher \(2, 1\)"):
        effective_gain(two, two, two[:, None])
    with pytest.raises(ValueError, match=r"distilled and student have different indexes: .*pandas\.merge"):
        direct_gain(pd.Series(two), pd.Series(two, index=[1, 2]))
    with pytest.raises(TypeError, match="student is a list: give a number, an array"):
        direct_gain(two, [50.0, 60.0])
    assert effective_gain(two, 40.0, two).tolist() == [0.2, pytest.approx(1 / 3)]


@pytest.mark.parametrize("teacher", [0.0, np.array([80.0, 0.0])])
def test_a_teacher_that_knows_nothing_has_no_effective_gain(teacher):
    with pytest.raises(ValueError, match="teacher must be above 0"):
        effective_gain(50.0, 40.0, teacher)


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_interval_is_student_s(n, level):
    values = np.random.default_rng(n).normal(80, 2, n)
    s = spread(values, level)
    low, high = stats.t.interval(level, n - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (s.low, s.high) == pytest.approx((low, high), rel=1e-12)
    assert (s.mean, s.sd, s.n) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)), n)


def test_the_interval_is_at_95_percent_unless_asked():
    assert spread([1.0, 2.0, 3.0]).high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


def test_one_value_has_a_mean_and_no_spread():
    s = spread([81.5])
    assert (s.mean, s.n) == (81.5, 1) and all(map(math.isnan, (s.sd, s.low, s.high)))


def test_equal_values_have_an_interval_of_no_width():
    assert spread([5.0, 5.0, 5.0])[:4] == (5.0, 0.0, 5.0, 5.0)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf], [[1.0, 2.0]], 3.0])
def test_no_values_and_values_that_are_none_are_refused(values):
    with pytest.raises(ValueError, match="values must be one or more finite numbers"):
        spread(values)


def slow_calibration_error(confidence: list[float], correct: list[bool], bins: int) -> float:
    """Bin by bin, as in the paper's equation 3."""
    error = 0.0
    for b in range(bins):
        inside = [i for i, p in enumerate(confidence) if b / bins <= p < (b + 1) / bins or (p == 1 and b == bins - 1)]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            mean = sum(confidence[i] for i in inside) / len(inside)
            error += len(inside) / len(confidence) * abs(accuracy - mean)
    return 100 * error


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_error_is_the_mean_gap_over_bins(bins: int) -> None:
    draw = np.random.default_rng(0)
    confidence = [*draw.random(500), 1.0, 0.0]
    correct = [bool(draw.random() < p) for p in confidence]
    assert calibration_error(confidence, correct, bins) == pytest.approx(
        slow_calibration_error(confidence, correct, bins)
    )


def test_calibration_error_of_known_cases() -> None:
    assert calibration_error([0.7] * 10, [True] * 7 + [False] * 3) == pytest.approx(0)
    assert calibration_error([1.0] * 4, [False] * 4) == 100


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: agreement([], []), "must be predictions for the same images"),
        (lambda: agreement([1, 2], [1]), "must be predictions for the same images"),
        (lambda: calibration_error([1.2], [True]), "confidence must be probabilities, got 1.2"),
        (lambda: calibration_error([math.nan], [True]), "confidence must be probabilities"),
        (lambda: calibration_error([0.5, 0.5], [True]), "must be of the same images"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
