"""The trained module: a student with its objective."""

import torch
from torch import Tensor, nn

from lkd.models.normalization import unwrapped
from lkd.models.timm_attributes import without_decay
from lkd.objectives import Objective, Outputs
from lkd.objectives.outputs import compute_outputs


class DistillationTask(nn.Module):
    """A student and its objective in one module, to train, wrap and save as a whole.

    Args:
        student: images to logits.
        objective: the loss; one on feature maps must be connected to the networks.
    """

    def __init__(self, student: nn.Module, objective: Objective):
        super().__init__()
        self.student, self.objective = student, objective

    def forward(self, images: Tensor, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        """The terms of the loss.

        Args:
            images: `(B, C, H, W)`.
            teacher: the teacher's outputs for these images; None without a teacher.
            target: labels, hard or soft.

        Raises:
            FloatingPointError: logits that are not finite.
        """
        student = compute_outputs(self.student, images, self.objective.student_maps)
        try:
            return self.objective(student, teacher, target)
        except ValueError as error:
            tensors = [student.logits, *([teacher.logits] if teacher else [])]
            if all(torch.isfinite(tensor).all() for tensor in tensors):
                raise
            raise FloatingPointError(str(error)) from error

    def no_weight_decay(self) -> set[str]:
        """Names of the student's parameters without weight decay, as in timm.

        Raises:
            TypeError: the student has an attribute of this name with another meaning.
        """
        network = unwrapped(self.student)
        prefix = next(name for name, module in self.named_modules() if module is network)
        return {f"{prefix}.{name}" for name in without_decay(network)}
