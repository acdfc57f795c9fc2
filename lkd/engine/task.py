"""The trained module: a student with its objective."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from lkd.engine.forward import compute_outputs
from lkd.objectives import Objective, Outputs


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
        student = compute_outputs(self.student, images, self.objective.stages)
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
        named = getattr(self.student, "no_weight_decay", set)
        try:
            return {f"student.{name}" for name in _names(named())}
        except TypeError as error:
            raise TypeError(
                "student's no_weight_decay must be a method that returns a set of parameter names, like timm's "
                f"({error}): rename it"
            ) from error


def _names(given: Any) -> Collection[str]:
    if isinstance(given, str) or not isinstance(given, Collection) or not all(isinstance(each, str) for each in given):
        raise TypeError(f"it returns {given!r}")
    return given
