"""What an objective is to the training loop."""

import inspect
from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Outputs(NamedTuple):
    """What a network gives for a batch: logits `(B, C)`, and the feature maps asked for, each `(B, c, h, w)`."""

    logits: Tensor
    maps: tuple[Tensor, ...] = ()


class Objective(nn.Module):
    """What a student minimises: named terms of what student and teacher give and of the target, and their sum.

    Layers of its own, such as projectors, are trained with the student and are no part of it afterwards.
    """

    needs_teacher: ClassVar[bool] = True
    stages = 0
    """How many feature maps it compares: those of the last stages of both networks, the last one at the end."""

    @classmethod
    def hyperparameters(cls) -> list[str]:
        """Names of the parameters that a recipe may set."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]

    def connect(self, student: Outputs, teacher: Outputs) -> None:
        """Make the layers that fit these two networks, given what they give for some images; by default none."""

    @abstractmethod
    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the loss by name, scalars."""

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """The terms of the loss by name, and their sum as `total`."""
        terms = self.terms(student, teacher, target)
        return {**terms, "total": total(terms)}


def total(terms: dict[str, Tensor]) -> Tensor:
    """The sum of the terms."""
    return torch.stack(tuple(terms.values())).sum()
