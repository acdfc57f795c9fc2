"""Check of a teacher before training: its accuracy on the student's validation images."""

import copy
import math
import warnings
from dataclasses import dataclass
from functools import cached_property

import scipy
import torch
from accelerate import Accelerator
from torch import Tensor

from lkd.data import Batch, scheme, subset
from lkd.engine.setup import RunSetup
from lkd.engine.teacher import FrozenTeacher, weights_hash
from lkd.objectives.outputs import compute_outputs

_MIN_IMAGES, _MAX_IMAGES, _IMAGES_PER_CLASS = 250, 500, 5
"""Minimum and maximum number of validation images for the check, and images per class in between."""

_BATCH_SIZE = 250
_MUCH_WORSE = 10
"""Percentage points below the student at which a teacher raises a warning."""
_MUCH_BETTER = 5
"""Minimum improvement (percentage points) of another order of the classes for a warning."""


@dataclass(frozen=True, eq=False)
class TeacherCheck:
    """A teacher's predictions on validation images.

    Args:
        name: the teacher's name.
        predicted, labels: predicted and true class of each image, int64, shape (N,).
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

    @cached_property
    def balanced_top1(self) -> float:
        """Mean over the classes present of the accuracy on each class, in percent."""
        right = (self.predicted == self.labels).double()
        return 100 * torch.stack([right[self.labels == label].mean() for label in self.labels.unique()]).mean().item()

    def warn(self, student_top1: float | None = None) -> bool:
        """Warn of a teacher that does not seem to fit the data; returns whether it warned.

        There is a warning if the teacher is no better than guessing, far below the student, or much better with another
        order of its classes.

        Args:
            student_top1: validation accuracy of the student in percent, baseline or distilled; None if unknown.
        """
        order = self._other_order
        if self.balanced_top1 <= self._guessing:
            reason = f"no better than guessing ({100 / self.classes:.1f} % of each class)"
        elif student_top1 is not None and self.top1 < student_top1 - _MUCH_WORSE:
            reason = f"far below the student ({student_top1:.1f} %)"
        elif order:
            reason = "and some of its classes seem to be swapped"
        else:
            return False
        warnings.warn(
            f"teacher {self.name!r} has a top-1 of {self.top1:.1f} % on {len(self.labels)} validation images, {reason}"
            f": check that its classes have the order of the data's{order}, and that it expects the normalisation and "
            "size of these images",
            stacklevel=2,
        )
        return True

    @property
    def _guessing(self) -> float:
        """Accuracy in percent that guessing exceeds with probability 0.001 on 500 images; 0 for one class."""
        present = len(self.labels.unique())
        return 100 * (1 / present + 3 * math.sqrt((present - 1) / present**2 / _MAX_IMAGES)) if present > 1 else 0.0

    @cached_property
    def _other_order(self) -> str:
        """A note on an order of the classes with a much higher accuracy; empty if there is none."""
        from sklearn.metrics import confusion_matrix

        counts = confusion_matrix(self.labels, self.predicted, labels=range(self.classes))
        rows, columns = scipy.optimize.linear_sum_assignment(-counts)
        best, images = 100 * counts[rows, columns].sum() / len(self.labels), counts.sum(1)
        moved = [(row, column) for row, column in zip(rows, columns, strict=True) if row != column and images[row]]
        clear = [(row, column) for row, column in moved if counts[row, column] >= max(2, images[row] / 2)]
        if best < self.top1 + _MUCH_BETTER or len(clear) < 2 or len(clear) < len(moved) / 2:
            return ""
        row, column = max(clear, key=lambda pair: counts[pair])
        return f" (in another order, with its class {column} as class {row} for example, it would reach {best:.1f} %)"


_checks: dict[tuple[object, ...], TeacherCheck] = {}


def check_image_count(classes: int) -> int:
    """The number of validation images for the check of a teacher, if there are as many.

    Example:
        >>> from lkd.engine.teacher_check import check_image_count
        >>> check_image_count(10), check_image_count(1000)
        (250, 500)
    """
    return min(_MAX_IMAGES, max(_MIN_IMAGES, _IMAGES_PER_CLASS * classes))


def check_teacher(setup: RunSetup, teacher: FrozenTeacher, accelerator: Accelerator, workers: int = 0) -> TeacherCheck:
    """Evaluate a teacher as used in the run: folded, with its own normalisation, in the run's precision.

    Results on images in memory are cached in this process; image files are read again, since they may have changed.

    Args:
        teacher: the teacher, on the accelerator's device.
        workers: worker processes that read image files.
    """
    recipe = setup.recipe
    teacher_id = getattr(recipe.teacher, "run_id", recipe.teacher)
    key = teacher_id, weights_hash(teacher.model), recipe.data, recipe.precision
    if key not in _checks or scheme(recipe.data):
        _checks[key] = _check(setup, teacher, accelerator, workers)
    return _checks[key]


@torch.no_grad()
def _check(setup: RunSetup, teacher: FrozenTeacher, accelerator: Accelerator, workers: int) -> TeacherCheck:
    data, device = setup.data, accelerator.device
    plain = copy.copy(teacher)
    plain.forward = compute_outputs  # uncompiled: other batch sizes would recompile it
    split = subset(data.val, min(len(data.val), check_image_count(len(data.classes))), seed=0)
    numbers, predicted, labels = torch.arange(len(split)), [], []
    for images, target in data.batches(split, numbers, _BATCH_SIZE, workers):
        batch = Batch(images.to(device), target.to(device), numbers[: len(target)])
        try:
            with accelerator.autocast():
                logits = plain(0, batch).logits
        except Exception as error:  # for example a model traced for a fixed batch size
            raise ValueError(
                f"teacher {setup.teacher_name!r} cannot take {len(images)} images at once ({error}): give a model that "
                "takes batches of any size"
            ) from error
        if broken := int((~logits.isfinite()).any(1).sum()):
            raise ValueError(
                f"teacher {setup.teacher_name!r} returns logits that are not finite for {broken} of {len(images)} "
                "validation images: check its weights and precision, and the images"
            )
        predicted.append(logits.argmax(1).cpu())
        labels.append(target)
    return TeacherCheck(setup.teacher_name, torch.cat(predicted), torch.cat(labels), len(data.classes))
