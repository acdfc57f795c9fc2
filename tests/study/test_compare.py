"""Effects and their uncertainty, compared with plain arithmetic and simulated studies of known spread."""

import itertools
import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lkd.paper.claims import claims
from lkd.study import accuracy_regression, additions, effect, with_baseline
from lkd.study.compare import MissingRowsError, crossed

A, B = {"teacher": ["a"]}, {"teacher": ["b"]}


def table(instances: int, seeds: int, gain) -> pd.DataFrame:
    """Two teachers, two students; `gain(teacher, student, instance, seed)`."""
    cells = itertools.product("ab", "rs", range(instances), range(seeds))
    rows = [(*cell, gain(*cell)) for cell in cells]
    return pd.DataFrame(rows, columns=["teacher", "student", "teacher_seed", "seed", "gain"])


def test_with_one_instance_it_is_the_paired_t_test_over_seeds() -> None:
    rows = table(1, 5, lambda t, s, i, seed: (t == "a") * (1 + seed**2) + 10 * (s == "r") + seed)
    found = effect(rows, "gain", A, B)
    differences = [1 + seed**2 for seed in range(5)]
    test = stats.ttest_1samp(differences, 0)
    assert (found.mean, found.freedom, found.teacher_seeds, found.seeds) == (7.0, 4, 1, 5)
    assert 2 * stats.t.sf(found.mean / found.error, found.freedom) == pytest.approx(test.pvalue)
    assert found.interval() == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_what_students_and_methods_differ_by_is_no_uncertainty() -> None:
    rows = table(3, 4, lambda t, s, i, seed: (t == "a") + 100 * (s == "r") + seed)
    found = effect(rows, "gain", A, B)
    assert found.mean == pytest.approx(1) and found.error == pytest.approx(0, abs=1e-12)


def test_each_entry_of_a_choice_counts_the_same_however_many_rows_it_has() -> None:
    rows = table(1, 3, lambda t, s, i, seed: {"a": 1.0, "b": 5.0}[t] + seed)
    more = pd.concat([rows, rows[rows.teacher == "a"].assign(student="t")])
    assert effect(more, "gain", {"teacher": ["a", "b"]}).mean == pytest.approx(4.0)


def test_one_of_a_kind_has_no_error_and_decides_nothing() -> None:
    found = effect(table(1, 1, lambda *cell: len(cell[0])), "gain", A, B)
    assert math.isnan(found.error) and found.freedom == 0 and math.isnan(found.interval()[0])


def shares_of(draw: np.random.Generator, effect: float, teachers: int = 2, instances: int = 8, seeds: int = 8):
    """Shares of teachers in a difference: own instances, shared seeds, and a residual, as in the exploratory runs."""
    shape = teachers, instances, seeds
    parts = draw.normal(0, 0.12, shape[:2])[..., None] + draw.normal(0, 0.15, shape)
    seeds_of = draw.normal(0, 0.11, seeds)
    return parts + (effect + seeds_of) / teachers


@pytest.mark.parametrize("design", [(2, 10, 10), (5, 8, 6), (2, 5, 5), (3, 3, 5)])
def test_intervals_of_crossed_designs_cover_the_truth(design: tuple[int, int, int]) -> None:
    """2,000 simulated studies each; 0.3 s. Small designs may be conservative, none may be too narrow."""
    draw, effect_of, covered = np.random.default_rng(0), 0.25, 0
    for _ in range(2000):
        low, high = crossed(shares_of(draw, effect_of, *design)).interval()
        covered += low <= effect_of <= high
    assert 0.93 <= covered / 2000 <= (0.985 if min(design[1:]) < 8 else 0.97)


@pytest.mark.parametrize(
    ("true", "word", "least", "most"),
    [
        (0.0, "supported", 0, 0.03),
        (0.0, "contradicted", 0, 0.03),
        (0.25, "no difference that matters", 0, 0.06),
        (0.25, "contradicted", 0, 0.001),
        (0.25, "supported", 0.8, 1),
        (0.0, "no difference that matters", 0.8, 1),
        (0.5, "supported", 0.99, 1),
    ],
)
def test_planted_effects_are_decided_at_the_size_of_the_tests(
    true: float, word: str, least: float, most: float
) -> None:
    assert least <= np.mean([p_values[word] < 0.05 for p_values in simulated_p_values(true)]) <= most


@cache
def simulated_p_values(true: float) -> list[dict[str, float]]:
    """P-values of a claim's rule in 2,000 simulated studies of 8 instances and 8 seeds; about 1 s."""
    claim, draw = claims()["logits-modern-convnets-over-transformers"], np.random.default_rng(1)
    return [claim.p_values(crossed(shares_of(draw, true))) for _ in range(2000)]


def test_teachers_have_instances_of_their_own_and_students_share_their_seeds() -> None:
    """The variance of a difference is the sum of the architectures' variances; seeds are paired."""
    draw = np.random.default_rng(2)
    own, shared = draw.normal(size=(2, 4)), draw.normal(size=5)
    rows = table(4, 5, lambda t, s, i, seed: own["ab".index(t), i] + shared[seed])
    found = effect(rows, "gain", A, B)
    assert found.error**2 == pytest.approx(sum(each.var(ddof=1) / 4 for each in own))
    assert found.freedom == pytest.approx(stats.ttest_ind(*own, equal_var=False).df)
    assert found.mean == pytest.approx(own[0].mean() - own[1].mean())


def test_what_is_compared_must_be_there() -> None:
    rows = table(1, 2, lambda *cell: 0.0)
    with pytest.raises(MissingRowsError, match=r"no row has {'teacher': \['c'\]}"):
        effect(rows, "gain", {"teacher": ["c"]})
    lacking = rows[(rows.teacher == "a") | (rows.seed == 0)]
    with pytest.raises(MissingRowsError, match="have different seeds: run the missing ones"):
        effect(lacking, "gain", A, B)
    with pytest.raises(MissingRowsError, match="have different instances or seeds: run the missing ones"):
        effect(lacking, "gain", {"teacher": ["a", "b"]})


def test_additions_pair_the_runs_of_a_seed() -> None:
    gains = pd.DataFrame(
        [
            ("r", "a", 0, seed, variant, seed + bonus)
            for seed in (0, 1)
            for variant, bonus in (("x", 1.0), ("x+y", 3.0))
        ],
        columns=["student", "teacher", "teacher_seed", "seed", "variant", "direct_gain"],
    )
    found = additions(gains, {"x+y": ["x", "y"]})
    assert found.addition.tolist() == [2.0, 2.0] and set(found.difference) == {"x+y over x"}
    assert additions(gains, {"z": ["x"]}).empty


def test_a_student_alone_counts_once_for_each_way_it_is_set_beside() -> None:
    rows = table(1, 2, lambda *cell: 0.0).assign(objective="kd", epochs=1, distilled_top1=60.0, student_top1=50.0)
    both = with_baseline(rows, "nobody")
    assert (both[both.teacher == "nobody"].top1 == 50.0).sum() == 4 and len(both) == len(rows) + 4


@pytest.mark.parametrize("students", ["r", "rs"])
def test_the_regression_on_teacher_accuracy_finds_planted_slopes(students: str) -> None:
    rows = [
        {"teacher": teacher, "teacher_seed": number, "seed": seed, "student": student, "teacher_top1": top1,
         "direct_gain": 0.5 * (teacher == "a") + 0.2 * top1 + offset + seed}
        for teacher, base in (("a", 86.0), ("b", 85.0), ("c", 84.0))
        for number in range(3)
        for top1 in [base + number**2 / 10]
        for seed in range(2)
        for student, offset in (("r", -1), ("s", 1))
        if student in students
    ]  # fmt: skip
    found = accuracy_regression(pd.DataFrame(rows), ["a"])
    assert found.estimate.tolist() == pytest.approx([0.5, 0.2]) and set(found.instances) == {9}
    assert (found["95 % low"] <= found.estimate).all() and (found.estimate <= found["95 % high"]).all()


def test_a_regression_needs_both_kinds_of_teachers() -> None:
    columns = {"teacher_seed": 0, "seed": 0, "direct_gain": 1.0, "teacher_top1": 9.0}
    rows = pd.DataFrame({"teacher": list("abcd"), **columns})
    assert accuracy_regression(rows, "abcd").empty and accuracy_regression(rows[:3], "a").empty
