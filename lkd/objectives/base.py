"""Base class of objectives, the interface to the training loop."""

import inspect
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

Maps = int | tuple[str, ...]
"""The feature maps of a network that are compared: the number of its last stages, or names of its layers."""


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
    student_layers: tuple[str, ...] = ()
    """Names of the student's layers to compare in place of its last stages, as many as `stages`."""
    teacher_layers: tuple[str, ...] = ()
    """Names of the teacher's layers to compare in place of its last stages, as many as `stages`."""

    @property
    def student_maps(self) -> Maps:
        """The student's feature maps to compare."""
        return self.student_layers or self.stages

    @property
    def teacher_maps(self) -> Maps:
        """The teacher's feature maps to compare."""
        return self.teacher_layers or self.stages

    @classmethod
    def hyperparameters(cls) -> list[str]:
        """Names of the hyperparameters that a recipe may set."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Default values of the hyperparameters that have one."""
        parameters = inspect.signature(cls.__init__).parameters
        values = {name: parameters[name].default for name in cls.hyperparameters()}
        return {name: value for name, value in values.items() if value is not inspect.Parameter.empty}

    def values(self) -> dict[str, Any]:
        """Values of the hyperparameters, from attributes of the same names.

        Raises:
            AttributeError: a hyperparameter without an attribute.
        """
        return {name: getattr(self, name) for name in self.hyperparameters()}

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
