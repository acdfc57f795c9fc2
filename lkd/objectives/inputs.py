"""Input checks shared by all objectives."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lkd.util.checks import unknown


def check_logits(student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> None:
    """Check as `check_labelled`, and refuse teacher logits of another shape than the student's.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a wrong shape or value.
    """
    check_labelled(student_logits, target)
    _check_teacher(teacher_logits, student_logits)


def check_unlabelled(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Check as `check_logits`, for a loss without a target.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a wrong shape or value.
    """
    _check_student(student_logits)
    _check_teacher(teacher_logits, student_logits)


def check_labelled(student_logits: Tensor, target: Tensor) -> None:
    """Refuse logits that are not float `(B, C)` with C >= 2, and a target that does not fit them.

    Values are checked on the CPU only, to avoid synchronising a GPU.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a wrong shape, a value that is not finite, a label outside 0..C-1, shares that do not sum to 1.
    """
    _check_student(student_logits)
    if isinstance(target, Tensor) and not target.is_floating_point():
        _check_labels(target, *student_logits.shape)
    else:
        _check_shares(target, student_logits)


def check_maps(student_map: Tensor, teacher_map: Tensor) -> None:
    """Refuse feature maps that are not float `(B, C, H, W)` of equal shape.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a wrong shape.
    """
    check_map("student_map", student_map)
    check_map("teacher_map", teacher_map)
    if teacher_map.shape != student_map.shape:
        raise ValueError(
            f"teacher_map must have student_map's shape {tuple(student_map.shape)}, got {tuple(teacher_map.shape)}"
        )


def check_map(name: str, tensor: Tensor) -> None:
    """Refuse a feature map that is not float `(B, C, H, W)`.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a wrong shape.
    """
    _check_floats(name, tensor)
    if tensor.ndim != 4 or not tensor.numel():
        raise ValueError(f"{name} must be (B, C, H, W) and not empty, got shape {tuple(tensor.shape)}")


def check_option(name: str, value: str, known: Iterable[str]) -> None:
    """Refuse an unknown name.

    Raises:
        KeyError: an unknown name, with the nearest known one.
    """
    if value not in (choices := list(known)):
        raise KeyError(unknown(name, value, choices))


def _check_student(student_logits: Tensor) -> None:
    _check_matrix("student_logits", student_logits)
    if student_logits.shape[1] < 2:
        raise ValueError(f"student_logits needs at least 2 classes, got shape {tuple(student_logits.shape)}")


def _check_teacher(teacher_logits: Tensor, student_logits: Tensor) -> None:
    _check_matrix("teacher_logits", teacher_logits)
    if teacher_logits.shape != student_logits.shape:
        raise ValueError(
            f"teacher_logits must have student_logits' shape {tuple(student_logits.shape)}, "
            f"got {tuple(teacher_logits.shape)}"
        )


def _check_matrix(name: str, tensor: Tensor) -> None:
    _check_floats(name, tensor)
    if tensor.ndim != 2 or not tensor.numel():
        raise ValueError(f"{name} must be (B, C) and not empty, got shape {tuple(tensor.shape)}")
    if _readable(tensor) and not torch.isfinite(tensor).all():
        row = int((~torch.isfinite(tensor)).any(1).nonzero()[0])
        raise ValueError(f"{name} must be finite, got {tensor[row].tolist()} in row {row}")


def _check_floats(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got a {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {tensor.dtype}")


def _check_labels(target: Tensor, batch: int, classes: int) -> None:
    if target.dtype != torch.int64:
        raise TypeError(f"a hard target must be int64 and a soft one floating point, got {target.dtype}")
    if target.shape != (batch,):
        raise ValueError(f"a hard target must be ({batch},) for these logits, got shape {tuple(target.shape)}")
    if _readable(target) and (int(target.min()) < 0 or int(target.max()) >= classes):
        raise ValueError(
            f"target must hold labels 0..{classes - 1}, got values from {int(target.min())} to {int(target.max())}"
        )


def _check_shares(target: Tensor, student_logits: Tensor) -> None:
    _check_matrix("target", target)
    if target.shape != student_logits.shape:
        raise ValueError(
            f"a soft target must have student_logits' shape {tuple(student_logits.shape)}, got {tuple(target.shape)}"
        )
    if _readable(target):
        low, off = target.min().item(), (target.sum(1, dtype=torch.float32) - 1).abs().max().item()
        if low < 0 or off > 0.01:
            raise ValueError(
                f"a soft target must have non-negative rows that sum to 1, "
                f"got a sum that is off by {off:.3g} and a smallest value of {low:.3g}"
            )


def _readable(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
