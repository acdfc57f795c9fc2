"""DIST: distillation from a stronger teacher by correlation (Huang et al. 2022, arXiv 2205.10536)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.objectives.base import Objective, Outputs, total
from lkd.objectives.inputs import check_unlabelled
from lkd.objectives.label import check_hard, weighted_label
from lkd.objectives.tensors import upcast
from lkd.util.checks import check_number

EPSILON = 1e-8
"""Added to the product of the norms in a correlation, as in the released code."""


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Tensor:
    r"""Lack of correlation of student and teacher, over classes and over the batch: `T^2 (beta inter + gamma intra)`.

    With `p = softmax(z/T)` and Pearson's `rho(a, b) = <a - mean a, b - mean b> / (|a - mean a| |b - mean b| + 1e-8)`:
    `inter = 1 - mean_b rho(p_s[b, :], p_t[b, :])`, `intra = 1 - mean_c rho(p_s[:, c], p_t[:, c])`. At equal logits, the
    loss is 0 except for the 1e-8, which matters for classes of tiny probability. There is no hard-label term; the
    official sum (hunto/DIST_KD, code in hunto/image_classification_sota, `dist_kd.py`) is `1 CE + 2 DIST`, VanillaKD's
    (`losses/dist.py`) is `1 CE + 1 DIST`. The authors' code without a temperature (segmentation) has T = 1.

    intra is a statistic of the given batch: on several devices, or over micro-batches, it differs from the statistic of
    the whole batch. With B = 1 it is the constant 1, without gradient.

    With two classes, inter is a sign: each correlation is 1 if student and teacher prefer the same class, -1 if they do
    not, and 0 if the student's logits are equal. It adds to the loss without useful gradient: the gradient comes from
    the 1e-8 alone, and is 0 at equal logits. intra has the same gradient as with more classes.

    Args:
        student_logits: `(B, C)` float, C >= 2.
        teacher_logits: `(B, C)` float; no gradient flows into it.
        temperature: T > 0.
        beta: weight of inter, at least 0.
        gamma: weight of intra, at least 0.

    Returns:
        A scalar, float32 (float64 for float64 logits).

    Raises:
        TypeError, ValueError: a dtype, shape or value other than those above.

    Example:
        >>> import torch
        >>> from lkd.objectives import dist_loss
        >>> logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 2.0, 3.0]])
        >>> round(dist_loss(logits, logits).item(), 4)
        0.0
    """
    _check(temperature, beta, gamma)
    return total(_terms(student_logits, teacher_logits, temperature, beta, gamma))


class DIST(Objective):
    """DIST as an objective: `dist_loss` plus `label` times the label loss."""

    def __init__(
        self, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0, label: float = 1.0, hard: str = "ce"
    ):
        super().__init__()
        _check(temperature, beta, gamma)
        check_number("label", label, 0)
        check_hard(hard)
        self.temperature, self.beta, self.gamma, self.label, self.hard = temperature, beta, gamma, label, hard

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """Terms `inter`, `intra` and, if its weight is not 0, `label`."""
        terms = _terms(student.logits, teacher.logits, self.temperature, self.beta, self.gamma)
        return {**terms, **weighted_label(self.label, student.logits, target, self.hard)}


def _check(temperature: float, beta: float, gamma: float) -> None:
    check_number("temperature", temperature, 0, above=True)
    check_number("beta", beta, 0)
    check_number("gamma", gamma, 0)


def _terms(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, beta: float, gamma: float
) -> dict[str, Tensor]:
    check_unlabelled(student_logits, teacher_logits)
    p_student = F.softmax(upcast(student_logits) / temperature, dim=1)
    p_teacher = F.softmax(upcast(teacher_logits.detach()) / temperature, dim=1)
    return {
        "inter": beta * temperature**2 * (1 - _over_classes(p_student, p_teacher).mean()),
        "intra": gamma * temperature**2 * (1 - _correlation(p_student, p_teacher, dim=0).mean()),
    }


def _over_classes(p_student: Tensor, p_teacher: Tensor) -> Tensor:
    """Correlation of each row; with two classes, ties of the student's logits pass no gradient.

    With two classes, low-precision logits often tie, and the slope would be `1 / EPSILON`.
    """
    correlation = _correlation(p_student, p_teacher, dim=1)
    if p_student.shape[1] > 2:
        return correlation
    return correlation.masked_fill(p_student[:, 0] == p_student[:, 1], 0.0)


def _correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Pearson correlation along a dimension."""
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    norms = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    return (a * b).sum(dim) / (norms + EPSILON)
