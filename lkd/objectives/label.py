"""The label loss: what a student trained alone minimises."""

from torch import Tensor

from lkd.objectives.base import Objective, Outputs
from lkd.objectives.checks import check_labelled
from lkd.objectives.tensors import cross_entropy, upcast


def label_loss(student_logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with the label, `-mean_B sum_i q_i log p_s,i`.

    Args:
        student_logits: `(B, C)` float.
        target: `(B,)` int64, or `(B, C)` float with rows that sum to 1.

    Returns:
        A scalar, float32 (float64 for float64 logits).

    Raises:
        TypeError, ValueError: a dtype, shape or value other than those above.

    Example:
        >>> import torch
        >>> from lkd.objectives import label_loss
        >>> round(label_loss(torch.zeros(1, 4), torch.tensor([2])).item(), 4)
        1.3863
    """
    check_labelled(student_logits, target)
    return cross_entropy(upcast(student_logits), target)


class Label(Objective):
    """`label_loss` as an objective; it needs no teacher."""

    needs_teacher = False

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        """The label's part; the teacher is not looked at."""
        return {"label": label_loss(student.logits, target)}
