"""The label loss, which trains the baseline without a teacher."""

from torch import Tensor

from lkd.objectives.base import Objective, Outputs
from lkd.objectives.inputs import check_labelled, check_option
from lkd.objectives.tensors import binary_cross_entropy, cross_entropy, upcast

HARD = {"ce": cross_entropy, "bce": binary_cross_entropy}
"""Label losses by their names for the parameter `hard`."""


def label_loss(student_logits: Tensor, target: Tensor, *, hard: str = "ce") -> Tensor:
    """Cross-entropy with the label, `-mean_B sum_i q_i log p_s,i`, or binary cross-entropy of each class.

    The binary form is the mean over B and C, as in timm: with 1000 classes, it is 1/1000 of the sum over classes. A
    hard target is converted to one-hot without smoothing (timm's class smooths by 0.1).

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
    """The term `label`: `weight` times the label loss, or no term if the weight is 0."""
    return {"label": weight * label_loss(student_logits, target, hard=hard)} if weight else {}


def check_hard(hard: str) -> None:
    """Refuse an unknown label loss.

    Raises:
        KeyError: an unknown name, with the nearest known one.
    """
    check_option("hard", hard, HARD)


class Label(Objective):
    """Training from labels as an objective, see `label_loss`."""

    needs_teacher = False

    def __init__(self, hard: str = "ce"):
        super().__init__()
        check_hard(hard)
        self.hard = hard

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        """Term `label`; the teacher is ignored."""
        return {"label": label_loss(student.logits, target, hard=self.hard)}
