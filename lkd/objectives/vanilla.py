"""Vanilla KD: label loss plus plain distillation (Hao et al. 2023, arXiv 2305.15781)."""

from torch import Tensor

from lkd.objectives.base import Objective, Outputs, total
from lkd.objectives.inputs import check_logits
from lkd.objectives.label import HARD, check_hard
from lkd.objectives.tensors import divergence, upcast


def vanilla_kd_loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, hard: str = "bce") -> Tensor:
    r"""Label loss and distillation with weight 1 each, `L_hard + KL(p_t || p_s)`, at T = 1.

    KL sums over classes and is a batch mean. `hard="bce"` is the binary cross-entropy of each class, averaged over B
    and C: at C = 1000 it is 1/1000 of the sum over classes, and KL dominates. `hard="ce"` is the cross-entropy. A soft
    target is used in full. This is the released code (Hao840/vanillaKD, `losses/kd.py` and `train-kd.py`); multiply by
    0.5 for weights of 0.5 each.

    Args:
        student_logits: `(B, C)` float, C >= 2.
        teacher_logits: `(B, C)` float; no gradient flows into it.
        target: `(B,)` int64, converted to one-hot without smoothing, or `(B, C)` float with rows that sum to 1.
        hard: "bce" or "ce".

    Returns:
        A scalar, float32 (float64 for float64 logits).

    Raises:
        TypeError, ValueError: a dtype, shape or value other than those above.
        KeyError: an unknown `hard`, with the nearest known one.

    Example:
        >>> import torch
        >>> from lkd.objectives import vanilla_kd_loss
        >>> round(vanilla_kd_loss(torch.zeros(1, 4), torch.zeros(1, 4), torch.tensor([2])).item(), 4)
        0.6931
    """
    check_hard(hard)
    return total(_terms(student_logits, teacher_logits, target, hard))


class Vanilla(Objective):
    """Vanilla KD as an objective, see `vanilla_kd_loss`."""

    def __init__(self, hard: str = "bce"):
        super().__init__()
        check_hard(hard)
        self.hard = hard

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """Terms `kd` and `label`."""
        return _terms(student.logits, teacher.logits, target, self.hard)


def _terms(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, hard: str) -> dict[str, Tensor]:
    check_logits(student_logits, teacher_logits, target)
    student, teacher = upcast(student_logits), upcast(teacher_logits.detach())
    return {"kd": divergence(student, teacher), "label": HARD[hard](student, target)}
