"""NKD: normalised knowledge distillation (Yang et al. 2023, arXiv 2303.13005), as in SLaK's code."""

import torch.nn.functional as F
from torch import Tensor

from lkd.objectives.base import Objective, Outputs, total
from lkd.objectives.inputs import check_logits
from lkd.objectives.label import weighted_label
from lkd.objectives.tensors import hard_label, upcast, without_label
from lkd.util.checks import check_number


def nkd_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, temperature: float = 1.0, gamma: float = 1.0
) -> Tensor:
    r"""Target and non-target parts of the teacher's distribution, each normalised separately; means over the batch.

    `-p_t,y log p_s,y  -  gamma T^2 sum_{i != y} N(z_t/T)_i log N(z_s/T)_i`, with N the softmax over the C-1 classes
    other than the label y. The first term always has T = 1. The second is a cross-entropy, not a divergence: its
    minimum is the entropy of N(z_t/T), and the gradient at equal logits is not zero. There is no hard-label term; the
    official NKD (yzd-v/cls_KD, `nkd.py`) adds the cross-entropy and uses `gamma=1.5`: `NKD(gamma=1.5, label=1.0)`.
    SLaK's code (`engine_kd.py`) uses `gamma=1.0` without cross-entropy.

    Args:
        student_logits: `(B, C)` float, C >= 2; at C = 2 the second term is 0.
        teacher_logits: `(B, C)` float; no gradient flows into it.
        target: `(B,)` int64, or `(B, C)` float, reduced to its argmax: with mixup or CutMix, the second label is lost.
        temperature: T > 0.
        gamma: weight of the non-target term, at least 0.

    Returns:
        A scalar, float32 (float64 for float64 logits).

    Raises:
        TypeError, ValueError: a dtype, shape or value other than those above.

    Example:
        >>> import torch
        >>> from lkd.objectives import nkd_loss
        >>> round(nkd_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0])).item(), 4)
        0.3466
    """
    _check(temperature, gamma)
    return total(_terms(student_logits, teacher_logits, target, temperature, gamma))


class NKD(Objective):
    """NKD as an objective: `nkd_loss` plus `label` times the cross-entropy."""

    def __init__(self, temperature: float = 1.0, gamma: float = 1.0, label: float = 0.0):
        super().__init__()
        _check(temperature, gamma)
        check_number("label", label, 0)
        self.temperature, self.gamma, self.label = temperature, gamma, label

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """Terms `target`, `non_target` and, if its weight is not 0, `label`."""
        terms = _terms(student.logits, teacher.logits, target, self.temperature, self.gamma)
        return {**terms, **weighted_label(self.label, student.logits, target)}


def _check(temperature: float, gamma: float) -> None:
    check_number("temperature", temperature, 0, above=True)
    check_number("gamma", gamma, 0)


def _terms(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float, gamma: float
) -> dict[str, Tensor]:
    check_logits(student_logits, teacher_logits, target)
    student, teacher = upcast(student_logits), upcast(teacher_logits.detach())
    label = hard_label(target)
    p_label = F.softmax(teacher, dim=1).gather(1, label[:, None])
    log_p_label = F.log_softmax(student, dim=1).gather(1, label[:, None])
    others_teacher = F.softmax(without_label(teacher, label) / temperature, dim=1)
    log_others_student = F.log_softmax(without_label(student, label) / temperature, dim=1)
    return {
        "target": -(p_label * log_p_label).mean(),
        "non_target": -gamma * temperature**2 * (others_teacher * log_others_student).sum(1).mean(),
    }
