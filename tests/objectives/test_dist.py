"""DIST against its formula, in loops over Python floats, and against known properties."""

import pytest
import torch
from plain_losses import every_temperature, gradient, plain_dist, plain_gradient, sample

from lkd.objectives import DIST, Outputs, dist_loss

WEIGHTS = {"beta": 0.7, "gamma": 2.0}


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@every_temperature
def test_dist_is_its_formula(classes: int, temperature: float) -> None:
    student, teacher, _, _ = sample(classes)
    expected = plain_dist(student.tolist(), teacher.tolist(), temperature, **WEIGHTS)
    assert dist_loss(student, teacher, temperature=temperature, **WEIGHTS).item() == pytest.approx(expected, 1e-10)


@pytest.mark.parametrize("classes", [2, 6])
@every_temperature
def test_gradient_of_dist(classes: int, temperature: float) -> None:
    student, teacher, _, _ = sample(classes)
    rows = teacher.tolist()
    expected = plain_gradient(lambda z: plain_dist(z, rows, temperature, **WEIGHTS), student.tolist())
    actual = gradient(dist_loss, student, teacher, temperature=temperature, **WEIGHTS)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-8)


def test_dist_of_equal_logits_is_zero_but_for_the_epsilon() -> None:
    student, _, _, _ = sample(10, batch=64)
    assert 0 <= dist_loss(student, student).item() < 1e-5
    assert gradient(dist_loss, student, student).abs().max() < 1e-6


@every_temperature
def test_one_sample_has_no_correlation_over_the_batch(temperature: float) -> None:
    student, teacher, _, _ = sample(10, batch=1)
    terms = DIST(temperature=temperature, label=0.0)(Outputs(student), Outputs(teacher), None)
    assert terms["intra"] == temperature**2
    assert gradient(dist_loss, student, teacher, temperature=temperature, beta=0.0).abs().max() == 0
    assert gradient(dist_loss, student, teacher, temperature=temperature, gamma=0.0).abs().max() > 0


def test_with_two_classes_the_relation_over_the_classes_is_a_sign_and_the_batch_teaches() -> None:
    student, teacher, label, _ = sample(2, batch=16)
    agree = (student.argmax(1) == teacher.argmax(1)).double().mean()
    assert dist_loss(student, teacher, gamma=0.0).item() == pytest.approx(2 * (1 - agree.item()), abs=1e-5)
    assert gradient(dist_loss, student, teacher, gamma=0.0).abs().max() < 1e-5
    assert gradient(dist_loss, student, teacher, beta=0.0).abs().max() > 1e-3
    assert DIST()(Outputs(student), Outputs(teacher), label)["total"].isfinite()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_two_equal_logits_of_a_student_do_not_blow_up_the_gradient(dtype: torch.dtype) -> None:
    student, teacher, _, _ = sample(2, batch=16, dtype=dtype)
    student[3] = student[3, 0]
    alone = gradient(dist_loss, student, teacher, gamma=0.0)
    assert dist_loss(student[3:4], teacher[3:4], gamma=0.0) == 1
    assert alone[3].abs().max() == 0 and alone.abs().max() < 1e-4


def test_a_correlation_knows_no_scale_and_no_offset() -> None:
    """Mixing the teacher's probabilities with the uniform distribution does not change correlations."""
    student, teacher, _, _ = sample(10, batch=16)
    mixed = (0.25 * teacher.softmax(1) + 0.75 / 10).log()
    torch.testing.assert_close(dist_loss(student, mixed), dist_loss(student, teacher), rtol=1e-4, atol=0)


def test_a_teacher_that_is_certain_of_nothing_teaches_nothing() -> None:
    student, _, _, _ = sample(10)
    assert dist_loss(student, torch.zeros_like(student)) == 2
    assert gradient(dist_loss, student, torch.zeros_like(student)).abs().max() < 1e-7


def test_the_batch_counts_as_a_whole() -> None:
    student, teacher, _, _ = sample(10, batch=8)
    halves = [dist_loss(student[part], teacher[part], beta=0.0) for part in (slice(4), slice(4, 8))]
    assert (dist_loss(student, teacher, beta=0.0) - sum(halves) / 2).abs() > 0.01
    halves = [dist_loss(student[part], teacher[part], gamma=0.0) for part in (slice(4), slice(4, 8))]
    torch.testing.assert_close(dist_loss(student, teacher, gamma=0.0), sum(halves) / 2)
