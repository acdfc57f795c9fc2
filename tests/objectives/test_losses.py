"""KD, NKD and the label loss against their formulas, and properties of all losses.

The formulas are in the docstrings of the functions; limits and gradients are derived by hand.
"""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from plain_losses import (
    every_shape,
    every_temperature,
    every_width,
    gradient,
    plain_bce,
    plain_kd,
    plain_label,
    plain_nkd,
    sample,
)
from torch import Tensor

from lkd.objectives import NKD, Outputs, dist_loss, dkd_loss, kd_loss, label_loss, nkd_loss, vanilla_kd_loss

# Formulas -----------------------------------------------------------------------------------------------------------


@every_shape
@every_width
@every_temperature
def test_kd_is_its_formula(soft: bool, classes: int, temperature: float) -> None:
    student, teacher, target, shares = sample(classes, soft)
    expected = plain_kd(student.tolist(), teacher.tolist(), shares.tolist(), temperature, alpha=0.3)
    assert kd_loss(student, teacher, target, temperature=temperature, alpha=0.3).item() == pytest.approx(
        expected, 1e-11
    )


@every_shape
@every_width
@every_temperature
def test_nkd_is_its_formula(soft: bool, classes: int, temperature: float) -> None:
    student, teacher, target, shares = sample(classes, soft)
    expected = plain_nkd(student.tolist(), teacher.tolist(), shares.tolist(), temperature, gamma=1.5)
    assert nkd_loss(student, teacher, target, temperature=temperature, gamma=1.5).item() == pytest.approx(
        expected, 1e-11
    )


@every_shape
@every_width
def test_label_loss_is_its_formula(soft: bool, classes: int) -> None:
    student, _, target, shares = sample(classes, soft)
    assert label_loss(student, target).item() == pytest.approx(plain_label(student.tolist(), shares.tolist()), 1e-11)


def test_defaults_are_those_of_the_released_code() -> None:
    student, teacher, target, shares = sample(10)
    rows = student.tolist(), teacher.tolist(), shares.tolist()
    assert kd_loss(student, teacher, target).item() == pytest.approx(plain_kd(*rows, 1.0, 0.1), 1e-11)
    assert nkd_loss(student, teacher, target).item() == pytest.approx(plain_nkd(*rows, 1.0, 1.0), 1e-11)


@every_shape
@every_width
def test_binary_label_loss_is_its_formula(soft: bool, classes: int) -> None:
    student, _, target, shares = sample(classes, soft)
    expected = plain_bce(student.tolist(), shares.tolist())
    assert label_loss(student, target, hard="bce").item() == pytest.approx(expected, 1e-11)


@every_shape
def test_gradient_of_the_binary_label_loss(soft: bool) -> None:
    student, _, target, shares = sample(10, soft)
    expected = (student.sigmoid() - shares) / student.numel()
    torch.testing.assert_close(gradient(label_loss, student, target, hard="bce"), expected, rtol=1e-10, atol=1e-14)


# NKD in two public code bases ---------------------------------------------------------------------------------------


def nkd_of_slak(student: Tensor, teacher: Tensor, label: Tensor, temperature: float) -> Tensor:
    """SLaK's `engine_kd.py`: subtract 1000 from the label's logit, renormalise the rest."""
    column = label[:, None]
    of_label = -(teacher.softmax(1).gather(1, column) * student.softmax(1).gather(1, column).log()).mean()
    away = 1000 * F.one_hot(label, student.shape[1])
    p_s, p_t = (((logits - away) / temperature).softmax(1) for logits in (student, teacher))
    n_s, n_t = (p / (1 - p.gather(1, column)) for p in (p_s, p_t))
    products = (n_t * n_s.log()).scatter(1, column, 0)
    return of_label - temperature**2 * products.sum(1).mean()


def nkd_of_cls_kd(student: Tensor, teacher: Tensor, label: Tensor, temperature: float, gamma: float) -> Tensor:
    """cls_KD's `nkd.py`: log-softmax over the unmasked columns."""
    others = F.one_hot(label, student.shape[1]) == 0
    batch = len(label)
    s, t = (logits[others].reshape(batch, -1) / temperature for logits in (student, teacher))
    p_label = teacher.softmax(1)[range(batch), label]
    of_label = -(p_label * student.log_softmax(1)[range(batch), label]).mean()
    return of_label - gamma * temperature**2 * (t.softmax(1) * s.log_softmax(1)).sum(1).mean()


@every_temperature
def test_nkd_is_both_published_forms(temperature: float) -> None:
    student, teacher, label, _ = sample(10, batch=8)
    ours = nkd_loss(student, teacher, label, temperature=temperature)
    torch.testing.assert_close(ours, nkd_of_slak(student, teacher, label, temperature), rtol=1e-12, atol=0)
    torch.testing.assert_close(ours, nkd_of_cls_kd(student, teacher, label, temperature, 1.0), rtol=1e-12, atol=0)
    official = nkd_of_cls_kd(student, teacher, label, temperature, 1.5)
    torch.testing.assert_close(
        nkd_loss(student, teacher, label, temperature=temperature, gamma=1.5), official, rtol=1e-12, atol=0
    )


# Gradients ----------------------------------------------------------------------------------------------------------


@every_shape
@every_temperature
def test_gradient_of_kd(soft: bool, temperature: float) -> None:
    student, teacher, target, shares = sample(10, soft)
    p_s, p_t = ((logits / temperature).softmax(1) for logits in (student, teacher))
    expected = (0.3 * temperature * (p_s - p_t) + 0.7 * (student.softmax(1) - shares)) / len(student)
    actual = gradient(kd_loss, student, teacher, target, temperature=temperature, alpha=0.3)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-14)


@every_shape
@every_temperature
def test_gradient_of_nkd(soft: bool, temperature: float) -> None:
    student, teacher, target, shares = sample(10, soft)
    label = F.one_hot(shares.argmax(1), 10)
    p_label = (teacher.softmax(1) * label).sum(1, keepdim=True)
    n_s, n_t = ((z / temperature).masked_fill(label == 1, -math.inf).softmax(1) for z in (student, teacher))
    expected = (p_label * (student.softmax(1) - label) + 1.5 * temperature * (n_s - n_t)) / len(student)
    actual = gradient(nkd_loss, student, teacher, target, temperature=temperature, gamma=1.5)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-14)


# Limits -------------------------------------------------------------------------------------------------------------


@every_shape
def test_kd_without_the_teacher_is_cross_entropy(soft: bool) -> None:
    student, teacher, target, _ = sample(10, soft)
    expected = F.cross_entropy(student, target)
    torch.testing.assert_close(kd_loss(student, teacher, target, temperature=3.0, alpha=0.0), expected)
    torch.testing.assert_close(label_loss(student, target), expected)


@every_temperature
def test_kd_of_equal_logits_without_the_label_is_zero_and_flat(temperature: float) -> None:
    student, _, target, _ = sample(10)
    assert kd_loss(student, student, target, temperature=temperature, alpha=1.0).abs() < 1e-13
    assert gradient(kd_loss, student, student, target, temperature=temperature, alpha=1.0).abs().max() < 1e-13


@every_temperature
def test_nkd_of_equal_logits_still_pulls_at_the_label(temperature: float) -> None:
    student, _, label, shares = sample(10)
    p = student.softmax(1)
    expected = p[range(4), label, None] * (p - shares) / 4
    actual = gradient(nkd_loss, student, student, label, temperature=temperature)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-13)


def test_nkd_with_two_classes_has_no_second_term() -> None:
    student, teacher, label, _ = sample(2)
    assert NKD(temperature=3.0, gamma=7.0)(Outputs(student), Outputs(teacher), label)["non_target"] == 0
    assert (
        NKD()(Outputs(student), Outputs(teacher), label)["target"] == nkd_loss(student, teacher, label, gamma=0.0)
    ).all()


def test_nkd_takes_the_first_of_equal_shares_for_the_label() -> None:
    student, teacher, _, _ = sample(4)
    tied = torch.tensor([0.1, 0.4, 0.4, 0.1], dtype=torch.float64).expand(4, 4)
    first = torch.ones(4, dtype=torch.int64)
    assert nkd_loss(student, teacher, tied) == nkd_loss(student, teacher, first)


# Invariances --------------------------------------------------------------------------------------------------------

LOSSES = {
    "label": lambda student, teacher, target: label_loss(student, target),
    "kd": lambda *args: kd_loss(*args, temperature=3.0, alpha=0.4),
    "nkd": lambda *args: nkd_loss(*args, temperature=3.0, gamma=1.5),
    "dkd": lambda *args: dkd_loss(*args, temperature=3.0, beta=8.0),
    "dist": lambda student, teacher, target: dist_loss(student, teacher, temperature=3.0, gamma=0.5),
    "vanilla": lambda *args: vanilla_kd_loss(*args, hard="ce"),
}
BINARY = {
    "binary label": lambda student, teacher, target: label_loss(student, target, hard="bce"),
    "binary vanilla": vanilla_kd_loss,
}
every_loss_of_softmax = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
every_loss = pytest.mark.parametrize("loss", (LOSSES | BINARY).values(), ids=LOSSES | BINARY)


@every_loss_of_softmax
def test_a_constant_added_to_a_row_changes_nothing(loss: Callable[..., Tensor]) -> None:
    student, teacher, label, _ = sample(10)
    moved = student + torch.tensor([[-7.0], [0.0], [3.0], [90.0]]), teacher + torch.tensor([[5.0], [-60.0], [1.0], [0]])
    torch.testing.assert_close(loss(*moved, label), loss(student, teacher, label), rtol=1e-12, atol=0)


@every_loss
@every_shape
def test_names_of_classes_do_not_matter(loss: Callable[..., Tensor], soft: bool) -> None:
    student, teacher, target, _ = sample(10, soft)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    renamed = target[:, order] if soft else order.argsort()[target]
    torch.testing.assert_close(loss(student[:, order], teacher[:, order], renamed), loss(student, teacher, target))


@every_loss
def test_order_and_repetition_of_samples_do_not_matter(loss: Callable[..., Tensor]) -> None:
    values = sample(10)[:3]
    for order in ([2, 0, 3, 1], [0, 1, 2, 3] * 3):
        torch.testing.assert_close(loss(*(value[order] for value in values)), loss(*values))


@every_loss
def test_a_hard_label_is_the_soft_one_that_puts_all_on_it(loss: Callable[..., Tensor]) -> None:
    student, teacher, label, shares = sample(10)
    torch.testing.assert_close(loss(student, teacher, shares), loss(student, teacher, label))


@every_loss
def test_only_the_student_gets_a_gradient_and_nothing_is_changed(loss: Callable[..., Tensor]) -> None:
    inputs = [value.requires_grad_() for value in sample(10, soft=True)[:3]]
    before = [value.detach().clone() for value in inputs]
    loss(inputs[0], inputs[1], inputs[2].detach()).backward()
    assert inputs[0].grad.abs().sum() > 0 and inputs[1].grad is None
    assert all(torch.equal(value, was) for value, was in zip(inputs, before, strict=True))


# Numerics -----------------------------------------------------------------------------------------------------------


def test_nkd_is_right_where_the_released_code_gives_infinity() -> None:
    student, teacher = torch.tensor([[0.0, 0.0, 120.0, 0.0]]), torch.tensor([[1.0, 2.0, 0.5, 3.0]])
    assert nkd_loss(student, teacher, torch.tensor([0])).item() == pytest.approx(123.45, abs=0.005)


@every_loss
@every_shape
@pytest.mark.parametrize("height", [60.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_logits_of_low_precision_give_a_finite_float32(
    loss: Callable[..., Tensor], soft: bool, height: float, dtype: torch.dtype
) -> None:
    signs = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, -1.0, -1.0]])
    student, teacher = (height * signs).to(dtype).requires_grad_(), (height * signs.flip(0)).to(dtype)
    target = torch.tensor([[0.1, 0.9, 0.0], [0.7, 0.2, 0.1], [0.0, 0.5, 0.5]]) if soft else torch.tensor([1, 0, 1])
    value = loss(student, teacher, target)
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite()
    exact = loss(student.double(), teacher.double(), target.double() if soft else target)
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=1e-6)
    assert student.grad.dtype == dtype and student.grad.isfinite().all()


@every_loss
def test_float64_stays_float64_and_autocast_stays_float32(loss: Callable[..., Tensor]) -> None:
    student, teacher, label, _ = sample(10)
    assert loss(student, teacher, label).dtype == torch.float64
    student, teacher = student.float(), teacher.float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(student, teacher, label)
    assert inside.dtype == torch.float32 and inside == loss(student, teacher, label)
