"""Whether a teacher knows the data: its accuracy on the student's validation images, before the student learns."""

import copy
import math
import warnings
from dataclasses import dataclass
from functools import cached_property

import torch
from accelerate import Accelerator
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import confusion_matrix
from torch import Tensor

from lkd.data import Batch, subset
from lkd.engine.outputs import outputs
from lkd.engine.setting import Setting
from lkd.engine.teacher import LiveTeacher

IMAGES = 500
"""Validation images, at most, that a teacher is evaluated on: a fixed stratified part of them."""

_BATCH = 250
_FAR = 10
"""Percentage points below a student at which a teacher is far below it."""
_PER_CLASS = 5
"""Images of each class, at least, from which another order of the classes can be told."""


@dataclass(frozen=True, eq=False)
class TeacherCheck:
    """A teacher's predictions on validation images.

    Args:
        name: of the teacher.
        predicted, labels: class of each image, int64, shape (N,).
        classes: number of classes.
    """

    name: str
    predicted: Tensor
    labels: Tensor
    classes: int

    @cached_property
    def top1(self) -> float:
        """Accuracy in percent."""
        return 100 * (self.predicted == self.labels).double().mean().item()

    def warn(self, student_top1: float | None = None) -> bool:
        """Warn of a teacher that is no better than guessing, or far below a student; whether there was cause to.

        Args:
            student_top1: validation accuracy of the student in percent, alone or taught; None where it is not known.
        """
        if self.top1 <= self._guessing:
            reason = f"no better than guessing ({100 / self.classes:.1f} %)"
        elif student_top1 is not None and self.top1 < student_top1 - _FAR:
            reason = f"far below the student ({student_top1:.1f} %)"
        else:
            return False
        warnings.warn(
            f"teacher {self.name!r} is right on {self.top1:.1f} % of {len(self.labels)} validation images, {reason}: "
            f"check that its classes have the order of the data's{self._other_order}, that it expects the "
            "normalisation of these images, and their size",
            stacklevel=2,
        )
        return True

    @property
    def _guessing(self) -> float:
        """The accuracy in percent that guessing the commonest class passes on 500 images once in a thousand times."""
        share = max(1 / self.classes, self.labels.bincount().max().item() / len(self.labels))
        return 100 * (share + 3 * math.sqrt(share * (1 - share) / IMAGES))

    @property
    def _other_order(self) -> str:
        """Where the classes in another order would explain the predictions: how well, and an example."""
        if len(self.labels) < _PER_CLASS * self.classes:
            return ""
        counts = confusion_matrix(self.labels, self.predicted, labels=range(self.classes))
        rows, columns = linear_sum_assignment(-counts)
        best = 100 * counts[rows, columns].sum() / len(self.labels)
        moved = [(row, column) for row, column in zip(rows, columns, strict=True) if row != column]
        if best < self.top1 + _FAR or best < 2 * self.top1 or not moved:
            return ""
        row, column = max(moved, key=lambda pair: counts[pair])
        return f" (in another order, with its class {column} as class {row} for example, it would reach {best:.1f} %)"


@torch.no_grad()
def check_teacher(setting: Setting, teacher: LiveTeacher, accelerator: Accelerator, workers: int = 0) -> TeacherCheck:
    """Evaluate a teacher as the student will meet it: folded, under its own normalisation, in the run's precision.

    Args:
        setting: the recipe, with its data.
        teacher: on the accelerator's device.
        accelerator: device and precision.
        workers: processes that read images ahead, where they are in files.
    """
    data, device = setting.data, accelerator.device
    plain = copy.copy(teacher)
    plain.ask = outputs  # not compiled, which would be done again for these batches
    split = subset(data.val, min(len(data.val), IMAGES), seed=0)
    numbers, predicted, labels = torch.arange(len(split)), [], []
    for images, target in data.batches(split, numbers, _BATCH, workers):
        with accelerator.autocast():
            logits = plain(0, Batch(images.to(device), target.to(device), numbers[: len(target)])).logits
        predicted.append(logits.argmax(1).cpu())
        labels.append(target)
    name = setting.teacher_name
    return TeacherCheck(name, torch.cat(predicted), torch.cat(labels), len(data.classes))
