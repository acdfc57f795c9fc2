"""KD: distillation of softened logits (Hinton et al. 2015, arXiv 1503.02531), as in SLaK's code."""

from torch import Tensor

from lkd.objectives.base import Objective, Outputs, total
from lkd.objectives.inputs import check_logits
from lkd.objectives.tensors import cross_entropy, divergence, upcast
from lkd.util.checks import check_number


def kd_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, temperature: float = 1.0, alpha: float = 0.1
) -> Tensor:
    r"""Distillation and label loss, `alpha T^2 KL(p_t^T || p_s^T) + (1 - alpha) CE(z_s, target)`, batch means.

    `p^T = softmax(z / T)`; KL sums over classes. A soft target is used in full. The defaults follow the released code
    (VITA-Group/SLaK, `engine_kd.py` and `main_KD.py`): one tenth teacher, nine tenths label.

    Args:
        student_logits: `(B, C)` float, C >= 2.
        teacher_logits: `(B, C)` float; no gradient flows into it.
        target: `(B,)` int64, or `(B, C)` float with rows that sum to 1.
        temperature: T > 0.
        alpha: weight of the teacher's term, in [0, 1].

    Returns:
        A scalar, float32 (float64 for float64 logits).

    Raises:
        TypeError, ValueError: a dtype, shape or value other than those above.

    Example:
        >>> import torch
        >>> from lkd.objectives import kd_loss
        >>> logits, label = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> kd_loss(logits, logits, label, alpha=1.0).item()
        0.0
    """
    _check(temperature, alpha)
    return total(_terms(student_logits, teacher_logits, target, temperature, alpha))


class KD(Objective):
    """KD as an objective, see `kd_loss`."""

    def __init__(self, temperature: float = 1.0, alpha: float = 0.1):
        super().__init__()
        _check(temperature, alpha)
        self.temperature, self.alpha = temperature, alpha

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """Terms `kd` and `label`."""
        return _terms(student.logits, teacher.logits, target, self.temperature, self.alpha)


def _check(temperature: float, alpha: float) -> None:
    check_number("temperature", temperature, 0, above=True)
    check_number("alpha", alpha, 0, 1)


def _terms(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float, alpha: float
) -> dict[str, Tensor]:
    check_logits(student_logits, teacher_logits, target)
    student, teacher = upcast(student_logits), upcast(teacher_logits.detach())
    return {
        "kd": alpha * temperature**2 * divergence(student, teacher, temperature),
        "label": (1 - alpha) * cross_entropy(student, target),
    }
