"""What is trained: a student, and the layers of the objective."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from lkd.engine.outputs import outputs
from lkd.objectives import Objective, Outputs


class DistillationTask(nn.Module):
    """A student and its objective as one network, so that both are trained, wrapped and saved together.

    Args:
        student: images to logits.
        objective: what it minimises, connected where it compares feature maps.
    """

    def __init__(self, student: nn.Module, objective: Objective):
        super().__init__()
        self.student, self.objective = student, objective

    def forward(self, images: Tensor, taught: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        """The terms of the loss; without a teacher, `taught` is None.

        Raises:
            FloatingPointError: logits that are not finite.
        """
        given = outputs(self.student, images, self.objective.stages)
        try:
            return self.objective(given, taught, target)
        except ValueError as error:
            tensors = [given.logits, *([taught.logits] if taught else [])]
            if all(torch.isfinite(tensor).all() for tensor in tensors):
                raise
            raise FloatingPointError(str(error)) from error

    def no_weight_decay(self) -> set[str]:
        """timm's method: the parameters that the student keeps from decaying.

        Raises:
            TypeError: the student has an attribute of that name with another meaning.
        """
        named = getattr(self.student, "no_weight_decay", set)
        try:
            return {f"student.{name}" for name in _names(named())}
        except TypeError as error:
            raise TypeError(
                "student's no_weight_decay must be a method that gives a set of names of parameters, as timm's "
                f"({error}): rename it"
            ) from error


def _names(given: Any) -> Collection[str]:
    if isinstance(given, str) or not isinstance(given, Collection) or not all(isinstance(each, str) for each in given):
        raise TypeError(f"it gives {given!r}")
    return given
