"""Distillation as one module, for a training loop of one's own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lkd.models.copying import copy_model
from lkd.models.inference import device_of, in_eval_mode
from lkd.models.normalization import Normalization, Normalized, is_normalized
from lkd.models.timm_attributes import without_decay
from lkd.objectives.base import Objective, Outputs
from lkd.objectives.frozen import FrozenNetwork
from lkd.objectives.outputs import check_available, check_head, compute_outputs
from lkd.objectives.own import Given, make_objective

_Statistics = tuple[Sequence[float], Sequence[float]]


class DistillerOutput(NamedTuple):
    """The result of a `Distiller`: the loss, its terms by name, and the student's logits `(B, C)`."""

    total: Tensor
    terms: dict[str, Tensor]
    logits: Tensor


class Distiller(nn.Module):
    """A student, a teacher and an objective as one module, for your own training loop.

    The teacher is a frozen copy of the given one: in eval mode, also after `train()`, without gradients, in its fastest
    exact form. It moves with the module to a device or dtype, but is not in `parameters()` and `state_dict()`. These
    have the student, which is the given module itself, and the layers of the objective, such as projectors.

    Args:
        student: images `(B, C, H, W)` to logits `(B, classes)`; it is trained.
        teacher: images to logits of the same classes, or an `lkd.models.Ensemble`; None for "label" only.
        objective: a name in `OBJECTIVES`; an `Objective`, as class or instance; or a function of student logits,
            teacher logits and target that returns a scalar, or a dict of scalars.
        images: a few training images. They are required for objectives on feature maps, whose projectors are created
            from them here, so that `trainable_parameters()` is complete. With images, the networks are checked here,
            and the teacher's batch norms are folded.
        normalization: (mean, std) of the images, each with a value per channel, if the teacher expects another one or
            contains `lkd.models.Normalized`.
        teacher_normalization: (mean, std) that the teacher expects.
        parameters: parameters of the objective, such as `alpha=0.5` or `student_layers=["layer3.1"]`.

    Raises:
        KeyError, TypeError, ValueError: arguments that are unknown or do not fit together.

    Example:
        >>> import timm, torch
        >>> import lkd
        >>> from lkd.objectives import Distiller
        >>> student, teacher = timm.create_model("mini_resnet"), timm.create_model("mini_slak")
        >>> images, target = torch.randn(4, 3, 32, 32), torch.tensor([3, 1, 4, 1])
        >>> distiller = Distiller(student, teacher, "nkd+fd", images=images, normalize="channels")
        >>> optimizer = torch.optim.AdamW(distiller.trainable_parameters())
        >>> total, terms, logits = distiller(images, target)
        >>> total.backward()
        >>> optimizer.step()
        >>> sorted(terms), logits.shape
        (['fd', 'non_target', 'target'], torch.Size([4, 10]))
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        objective: Given = "nkd",
        *,
        images: Tensor | None = None,
        normalization: _Statistics | None = None,
        teacher_normalization: _Statistics | None = None,
        **parameters: Any,
    ):
        super().__init__()
        if not isinstance(student, nn.Module):
            raise TypeError(f"student must be an nn.Module, got {type(student).__name__}")
        made = make_objective(objective, parameters)
        name = _name(objective)
        _check_teacher(made, name, teacher)
        _check_images(made, name, images)
        check_available(student, made.student_maps, "student", name)
        self.student, self.objective = student, made
        self._teacher: FrozenNetwork | None = None
        trial = None if images is None else images.detach().to(device_of(student))
        if teacher is not None:
            check_available(teacher, made.teacher_maps, "teacher", name)
            given = _normalization_of_images(teacher, normalization, teacher_normalization)
            copied = copy_model(teacher, "teacher").to(device_of(student))
            copied = copied if teacher_normalization is None else Normalized(copied, *teacher_normalization)
            self._teacher = FrozenNetwork(copied, trial, given, made.teacher_maps)
        elif normalization or teacher_normalization:
            raise ValueError("normalization is for a teacher, and there is none: leave it out")
        if trial is not None:
            self._connect(trial)

    @property
    def teacher(self) -> nn.Module | None:
        """The frozen teacher; None without one."""
        return self._teacher.model if self._teacher else None

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Parameters for the optimizer: those of the student and of the objective that require gradients."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def forward(self, images: Tensor, target: Tensor) -> DistillerOutput:
        """The loss of a batch.

        Args:
            images: `(B, C, H, W)`, with the normalisation that the student expects.
            target: `(B,)` int64, or `(B, C)` float, as the objective takes it.

        Returns:
            `total`, the sum of the loss terms; `terms`, by name; `logits`, the student's.

        Raises:
            TypeError, ValueError: a target that does not fit the logits; networks with different classes.
        """
        teacher = self._teacher.outputs(images) if self._teacher else None
        student = compute_outputs(self.student, images, self.objective.student_maps)
        _check_classes(student, teacher, len(images))
        losses = self.objective(student, teacher, target)
        return DistillerOutput(losses.pop("total"), losses, student.logits)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters without weight decay, for timm's optimizers.

        Raises:
            TypeError: the student has an attribute of this name with another meaning.
        """
        return {f"student.{name}" for name in without_decay(self.student)}

    def _connect(self, images: Tensor) -> None:
        """Check the networks' outputs for the images, and create the objective's layers."""
        with torch.no_grad(), in_eval_mode(self.student):
            student = compute_outputs(self.student, images, self.objective.student_maps)
            check_head(self.student, images, self.objective.student_maps, "student")
        teacher = self._teacher.outputs(images) if self._teacher else None
        if self.teacher:
            check_head(self.teacher, images, self.objective.teacher_maps, "teacher")
        _check_classes(student, teacher, len(images))
        if self.objective.stages and teacher:
            self.objective.connect(student, teacher)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Distiller":
        """Apply a change of device or dtype to the teacher as well."""
        super()._apply(fn, recurse)
        if self._teacher:
            self._teacher.model._apply(fn)
        return self


def _check_teacher(objective: Objective, name: str, teacher: nn.Module | None) -> None:
    if objective.needs_teacher and teacher is None:
        raise ValueError(f"objective {name!r} needs a teacher, got teacher=None")
    if not objective.needs_teacher and teacher is not None:
        raise ValueError(f"objective {name!r} takes no teacher, got a {type(teacher).__name__}: leave it out")
    if not isinstance(teacher, nn.Module | None):
        raise TypeError(f"teacher must be an nn.Module, got {type(teacher).__name__}")


def _check_images(objective: Objective, name: str, images: Tensor | None) -> None:
    if images is None and objective.stages:
        raise ValueError(
            f"objective {name!r} compares feature maps, and its projectors are created from example images: "
            "pass a batch of training images, as images="
        )
    if images is not None and (not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point()):
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise TypeError(f"images must be a floating-point tensor (B, C, H, W), got {got}")


def _normalization_of_images(teacher: nn.Module, given: _Statistics | None, own: _Statistics | None) -> Normalization:
    """The normalisation of the images; without any, the teacher gets them unchanged."""
    for name, pair in (("normalization", given), ("teacher_normalization", own)):
        if pair is not None:
            _check_statistics(name, pair)
    if is_normalized(teacher):
        if given is None or own is not None:
            raise ValueError(
                "a Normalized teacher has its own normalisation: give normalization=, the (mean, std) of the images, "
                "and no teacher_normalization"
            )
    elif (given is None) != (own is None):
        missing = "normalization" if given is None else "teacher_normalization"
        raise ValueError(f"{missing} is missing: give normalization and teacher_normalization, or neither")
    return Normalization((0.0,), (1.0,)) if given is None else Normalization(*given)


def _check_statistics(name: str, pair: _Statistics) -> None:
    try:
        mean, std = (torch.as_tensor(values, dtype=torch.float32) for values in pair)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be (mean, std), each with a number per channel, got {pair!r}") from None
    if mean.ndim != 1 or mean.shape != std.shape or not (std > 0).all():
        raise ValueError(f"{name} must be (mean, std), each with a number per channel, std above 0, got {pair!r}")


def _check_classes(student: Outputs, teacher: Outputs | None, batch: int) -> None:
    """Refuse outputs that are not logits of the same classes."""
    found = {}
    for role, given in (("student", student), ("teacher", teacher)):
        if given is None:
            continue
        if not isinstance(given.logits, Tensor):
            raise TypeError(
                f"{role} must return logits, a tensor, got a {type(given.logits).__name__}: wrap it in a module that "
                "returns its logits"
            )
        if given.logits.ndim != 2 or len(given.logits) != batch:
            raise ValueError(
                f"{role} must return logits (B, classes), got shape {tuple(given.logits.shape)} for {batch} images"
            )
        found[role] = given.logits.shape[1]
    if len(set(found.values())) > 1:
        raise ValueError(
            f"student has {found['student']} classes, teacher {found['teacher']}: give networks for the same classes"
        )


def _name(objective: Given) -> str:
    return objective if isinstance(objective, str) else getattr(objective, "__name__", type(objective).__name__)
