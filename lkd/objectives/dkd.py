"""DKD: decoupled knowledge distillation (Zhao et al. 2022, arXiv 2203.08679)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.objectives.base import Objective, Outputs, total
from lkd.objectives.inputs import check_logits
from lkd.objectives.label import check_hard, weighted_label
from lkd.objectives.tensors import divergence, hard_label, upcast, without_label
from lkd.util.checks import check_number


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    temperature: float = 1.0,
    alpha: float = 1.0,
    beta: float = 2.0,
) -> Tensor:
    r"""Target and non-target parts of the divergence, weighted separately: `T^2 (alpha TCKD + beta NCKD)`, batch means.

    TCKD is `KL(b_t || b_s)` of the pairs `b = (p_y, 1 - p_y)`, NCKD is `KL(N(z_t/T) || N(z_s/T))` with N the softmax
    over the C-1 classes other than the label y; `p = softmax(z/T)`. For each sample,
    `KL(p_t || p_s) = TCKD + (1 - p_t,y) NCKD`; DKD replaces this coupling by independent weights. The loss is 0 at
    equal logits. There is no hard-label term; the sources add the cross-entropy with weight 1. The defaults are
    VanillaKD's (Hao840/vanillaKD, `losses/dkd.py`); the authors (megvii-research/mdistiller, `DKD.py`) use beta 8 and
    T 4 on CIFAR-100 and beta 0.5 on ImageNet, and warm the loss up over the first epochs.

    Args:
        student_logits: `(B, C)` float, C >= 2; at C = 2 NCKD is 0.
        teacher_logits: `(B, C)` float; no gradient flows into it.
        target: `(B,)` int64, or `(B, C)` float, reduced to its argmax: with mixup or CutMix, the second label is lost.
        temperature: T > 0.
        alpha: weight of TCKD, at least 0.
        beta: weight of NCKD, at least 0.

    Returns:
        A scalar, float32 (float64 for float64 logits).

    Raises:
        TypeError, ValueError: a dtype, shape or value other than those above.

    Example:
        >>> import torch
        >>> from lkd.objectives import dkd_loss
        >>> round(dkd_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([0])).item(), 4)
        0.1109
    """
    _check(temperature, alpha, beta)
    return total(_terms(student_logits, teacher_logits, target, temperature, alpha, beta))


class DKD(Objective):
    """DKD as an objective: `dkd_loss` plus `label` times the label loss."""

    def __init__(
        self, temperature: float = 1.0, alpha: float = 1.0, beta: float = 2.0, label: float = 1.0, hard: str = "ce"
    ):
        super().__init__()
        _check(temperature, alpha, beta)
        check_number("label", label, 0)
        check_hard(hard)
        self.temperature, self.alpha, self.beta, self.label, self.hard = temperature, alpha, beta, label, hard

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """Terms `target`, `non_target` and, if its weight is not 0, `label`."""
        terms = _terms(student.logits, teacher.logits, target, self.temperature, self.alpha, self.beta)
        return {**terms, **weighted_label(self.label, student.logits, target, self.hard)}


def _check(temperature: float, alpha: float, beta: float) -> None:
    check_number("temperature", temperature, 0, above=True)
    check_number("alpha", alpha, 0)
    check_number("beta", beta, 0)


def _terms(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float, alpha: float, beta: float
) -> dict[str, Tensor]:
    check_logits(student_logits, teacher_logits, target)
    student, teacher = upcast(student_logits) / temperature, upcast(teacher_logits.detach()) / temperature
    label = hard_label(target)
    log_b_student, log_b_teacher = _log_target_or_not(student, label), _log_target_or_not(teacher, label)
    of_target = F.kl_div(log_b_student, log_b_teacher, reduction="batchmean", log_target=True)
    of_others = divergence(without_label(student, label), without_label(teacher, label))
    return {"target": alpha * temperature**2 * of_target, "non_target": beta * temperature**2 * of_others}


def _log_target_or_not(logits: Tensor, label: Tensor) -> Tensor:
    """`(B, 2)`: log-probabilities of the label and of all other classes together."""
    log_p = F.log_softmax(logits, dim=1)
    log_others = torch.logsumexp(without_label(log_p, label), dim=1, keepdim=True)
    return torch.cat((log_p.gather(1, label[:, None]), log_others), dim=1)
