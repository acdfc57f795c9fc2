"""Base class of objectives, the interface to the training loop."""

import inspect
from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Outputs(NamedTuple):
    """Outputs of a network for a batch: logits `(B, C)` and the requested feature maps, each `(B, c, h, w)`."""

    logits: Tensor
    maps: tuple[Tensor, ...] = ()


class Objective(nn.Module):
    """Base class of training objectives: named loss terms of student, teacher and target, and their sum.

    Layers of an objective, such as projectors, are trained with the student and discarded afterwards.
    """

    needs_teacher: ClassVar[bool] = True
    stages = 0
    """Number of feature maps to compare: the maps of the last stages of both networks, last stage last."""

    @classmethod
    def hyperparameters(cls) -> list[str]:
        """Names of the hyperparameters that a recipe may set."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]

    def connect(self, student: Outputs, teacher: Outputs) -> None:
        """Create the layers for these two networks from their outputs for a few images; by default none."""

    @abstractmethod
    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """Weighted loss terms by name, as scalars."""

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """Loss terms by name, and their sum as `total`."""
        terms = self.terms(student, teacher, target)
        return {**terms, "total": total(terms)}


def total(terms: dict[str, Tensor]) -> Tensor:
    """Sum of the terms."""
    return torch.stack(tuple(terms.values())).sum()
