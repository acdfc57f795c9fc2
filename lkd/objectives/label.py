"""The label loss: what a student trained alone minimises."""

from torch import Tensor

from lkd.objectives.base import Objective, Outputs
from lkd.objectives.inputs import check_choice, check_labelled
from lkd.objectives.tensors import binary_cross_entropy, cross_entropy, upcast

HARD = {"ce": cross_entropy, "bce": binary_cross_entropy}
"""The label losses by the names that the parameter `hard` takes."""


def label_loss(student_logits: Tensor, target: Tensor, *, hard: str = "ce") -> Tensor:
    """Cross-entropy with the label, `-mean_B sum_i q_i log p_s,i`, or binary cross-entropy of each class by itself.

    The binary form is the mean over B and C, as in timm, so that with a thousand classes it is a thousandth of its sum
    over the classes. A hard target counts as one-hot, without smoothing (timm's class smooths it by 0.1).

    Args:
        student_logits: `(B, C)` float.
        target: `(B,)` int64, or `(B, C)` float with rows that sum to 1.
        hard: "ce" for cross-entropy, "bce" for binary cross-entropy.

    Returns:
        A scalar, float32 (float64 for float64 logits).

    Raises:
        TypeError, ValueError: a dtype, shape or value other than those above.
        KeyError: an unknown `hard`, with the nearest known one.

    Example:
        >>> import torch
        >>> from lkd.objectives import label_loss
        >>> round(label_loss(torch.zeros(1, 4), torch.tensor([2])).item(), 4)
        1.3863
        >>> round(label_loss(torch.zeros(1, 4), torch.tensor([2]), hard="bce").item(), 4)
        0.6931
    """
    check_hard(hard)
    check_labelled(student_logits, target)
    return HARD[hard](upcast(student_logits), target)


def weighted_label(weight: float, student_logits: Tensor, target: Tensor, hard: str = "ce") -> dict[str, Tensor]:
    """The term `label` of an objective that adds the label loss with a weight; no term where the weight is 0."""
    return {"label": weight * label_loss(student_logits, target, hard=hard)} if weight else {}


def check_hard(hard: str) -> None:
    """Refuse a name that is not in `HARD`.

    Raises:
        KeyError: an unknown name, with the nearest known one.
    """
    check_choice("hard", hard, HARD)


class Label(Objective):
    """`label_loss` as an objective; it needs no teacher."""

    needs_teacher = False

    def __init__(self, hard: str = "ce"):
        super().__init__()
        check_hard(hard)
        self.hard = hard

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        """The label's part; the teacher is not looked at."""
        return {"label": label_loss(student.logits, target, hard=self.hard)}
