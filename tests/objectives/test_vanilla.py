"""Vanilla KD against its formula, in loops over Python floats, and against known properties."""

import pytest
import torch
from plain_losses import every_shape, every_width, gradient, plain_bce, plain_kd, plain_label, sample

from lkd.objectives import kd_loss, label_loss, vanilla_kd_loss

PLAIN = {"ce": plain_label, "bce": plain_bce}
every_hard = pytest.mark.parametrize("hard", PLAIN)


@every_shape
@every_width
@every_hard
def test_vanilla_kd_is_its_formula(soft: bool, classes: int, hard: str) -> None:
    student, teacher, target, shares = sample(classes, soft)
    rows = student.tolist(), teacher.tolist(), shares.tolist()
    expected = PLAIN[hard](rows[0], rows[2]) + plain_kd(*rows, temperature=1.0, alpha=1.0)
    assert vanilla_kd_loss(student, teacher, target, hard=hard).item() == pytest.approx(expected, 1e-11)


@every_shape
def test_gradient_of_vanilla_kd(soft: bool) -> None:
    student, teacher, target, shares = sample(10, soft)
    of_teacher = (student.softmax(1) - teacher.softmax(1)) / len(student)
    of_label = {
        "ce": (student.softmax(1) - shares) / len(student),
        "bce": (student.sigmoid() - shares) / student.numel(),
    }
    for hard, expected in of_label.items():
        actual = gradient(vanilla_kd_loss, student, teacher, target, hard=hard)
        torch.testing.assert_close(actual, of_teacher + expected, rtol=1e-10, atol=1e-14)


def test_the_default_is_binary() -> None:
    student, teacher, label, _ = sample(10)
    assert vanilla_kd_loss(student, teacher, label) == vanilla_kd_loss(student, teacher, label, hard="bce")


def test_with_cross_entropy_it_is_twice_kd_of_equal_weights() -> None:
    student, teacher, label, _ = sample(10)
    expected = 2 * kd_loss(student, teacher, label, alpha=0.5)
    torch.testing.assert_close(vanilla_kd_loss(student, teacher, label, hard="ce"), expected)


@every_hard
def test_a_student_that_is_its_teacher_keeps_the_label_loss_alone(hard: str) -> None:
    student, _, target, _ = sample(10, soft=True)
    torch.testing.assert_close(
        vanilla_kd_loss(student, student, target, hard=hard), label_loss(student, target, hard=hard)
    )


def test_hard_labels_are_not_smoothed() -> None:
    certain = torch.full((1, 1000), -30.0)
    certain[0, 7] = 30.0
    assert label_loss(certain, torch.tensor([7]), hard="bce") < 1e-9
