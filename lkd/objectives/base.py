"""What an objective is to the training loop."""

import inspect
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn


class Objective(nn.Module):
    """What a student minimises: named terms of student logits, teacher logits and target, and their sum."""

    needs_teacher: ClassVar[bool] = True

    @classmethod
    def hyperparameters(cls) -> list[str]:
        """Names of the parameters that a recipe may set."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]

    @abstractmethod
    def terms(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the loss by name, scalars."""

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The terms of the loss by name, and their sum as `total`."""
        terms = self.terms(student_logits, teacher_logits, target)
        return {**terms, "total": total(terms)}


def total(terms: dict[str, Tensor]) -> Tensor:
    """The sum of the terms."""
    return torch.stack(tuple(terms.values())).sum()
