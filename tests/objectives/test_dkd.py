"""DKD against its formula, in loops over Python floats, and against known properties."""

import pytest
import torch
import torch.nn.functional as F
from plain_losses import every_shape, every_temperature, every_width, gradient, plain_dkd, sample

from lkd.objectives import DKD, Outputs, dkd_loss, kd_loss, label_loss


@every_shape
@every_width
@every_temperature
def test_dkd_is_its_formula(soft: bool, classes: int, temperature: float) -> None:
    student, teacher, target, shares = sample(classes, soft)
    expected = plain_dkd(student.tolist(), teacher.tolist(), shares.tolist(), temperature, alpha=0.7, beta=8.0)
    actual = dkd_loss(student, teacher, target, temperature=temperature, alpha=0.7, beta=8.0)
    assert actual.item() == pytest.approx(expected, 1e-10)


def test_defaults_are_those_of_vanilla_kd() -> None:
    student, teacher, label, shares = sample(10)
    expected = plain_dkd(student.tolist(), teacher.tolist(), shares.tolist(), temperature=1.0, alpha=1.0, beta=2.0)
    assert dkd_loss(student, teacher, label).item() == pytest.approx(expected, 1e-11)


@every_shape
@every_temperature
def test_gradient_of_dkd(soft: bool, temperature: float) -> None:
    student, teacher, target, shares = sample(10, soft)
    label = F.one_hot(shares.argmax(1), 10)
    p_s, p_t = (((z / temperature).softmax(1) * label).sum(1, keepdim=True) for z in (student, teacher))
    n_s, n_t = ((z / temperature).masked_fill(label == 1, -torch.inf).softmax(1) for z in (student, teacher))
    expected = temperature * (0.7 * (p_s - p_t) * (label - n_s) + 8.0 * (n_s - n_t)) / len(student)
    actual = gradient(dkd_loss, student, teacher, target, temperature=temperature, alpha=0.7, beta=8.0)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-13)


@every_temperature
def test_the_divergence_is_the_sum_of_both_parts(temperature: float) -> None:
    for row in range(4):
        student, teacher, label = (value[row : row + 1] for value in sample(10)[:3])
        doubt = 1 - (teacher / temperature).softmax(1)[0, label].item()
        parts = dkd_loss(student, teacher, label, temperature=temperature, alpha=1.0, beta=doubt)
        whole = kd_loss(student, teacher, label, temperature=temperature, alpha=1.0)
        torch.testing.assert_close(parts, whole, rtol=1e-11, atol=0)


@every_temperature
def test_dkd_of_equal_logits_is_zero_and_flat(temperature: float) -> None:
    student, _, label, _ = sample(10)
    assert dkd_loss(student, student, label, temperature=temperature, beta=8.0).abs() < 1e-12
    assert gradient(dkd_loss, student, student, label, temperature=temperature, beta=8.0).abs().max() < 1e-12


def test_dkd_with_two_classes_has_no_second_term() -> None:
    student, teacher, label, _ = sample(2)
    terms = DKD(temperature=3.0, beta=7.0, label=0.0)(Outputs(student), Outputs(teacher), label)
    assert terms["non_target"] == 0 and terms["target"] > 0
    assert gradient(dkd_loss, 60 * student, teacher, label, alpha=0.0).abs().max() == 0


def test_a_student_that_is_certain_of_the_label_still_learns_the_rest() -> None:
    student = torch.tensor([[40.0, 1.0, -1.0]])
    teacher = torch.tensor([[40.0, -1.0, 1.0]])
    certain = dkd_loss(student, teacher, torch.tensor([0]), alpha=1.0, beta=1.0)
    exact = plain_dkd(student.tolist(), teacher.tolist(), [[1.0, 0.0, 0.0]], 1.0, 1.0, 1.0)
    assert certain.item() == pytest.approx(exact, 1e-6) and exact > 1


@pytest.mark.parametrize("hard", ["ce", "bce"])
def test_the_label_is_added_with_its_weight(hard: str) -> None:
    student, teacher, label, _ = sample(10)
    terms = DKD(beta=8.0, label=0.5, hard=hard)(Outputs(student), Outputs(teacher), label)
    torch.testing.assert_close(terms["label"], 0.5 * label_loss(student, label, hard=hard))
    torch.testing.assert_close(terms["total"], terms["label"] + dkd_loss(student, teacher, label, beta=8.0))
