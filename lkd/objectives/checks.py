"""What every objective asks of its inputs."""

import torch
from torch import Tensor


def check_logits(student_logits: Tensor, teacher_logits: Tensor | None, target: Tensor) -> None:
    """Refuse logits that are not `(B, C)` floats of one shape with C >= 2, and a target that does not fit them.

    Values are looked at on CPU only, where that costs no synchronisation.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a wrong shape, a value that is not finite, a label outside 0..C-1.
    """
    _check_matrix("student_logits", student_logits)
    if student_logits.shape[1] < 2:
        raise ValueError(f"student_logits needs at least 2 classes, got shape {tuple(student_logits.shape)}")
    if teacher_logits is not None:
        _check_matrix("teacher_logits", teacher_logits)
        if teacher_logits.shape != student_logits.shape:
            raise ValueError(
                f"teacher_logits must have student_logits' shape {tuple(student_logits.shape)}, "
                f"got {tuple(teacher_logits.shape)}"
            )
    if target.is_floating_point():
        _check_matrix("target", target)
        if target.shape != student_logits.shape:
            raise ValueError(
                f"a soft target must have student_logits' shape {tuple(student_logits.shape)}, "
                f"got {tuple(target.shape)}"
            )
    else:
        _check_labels(target, *student_logits.shape)


def _check_matrix(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {tensor.dtype}")
    if tensor.ndim != 2 or not tensor.numel():
        raise ValueError(f"{name} must be (B, C) and not empty, got shape {tuple(tensor.shape)}")
    if _readable(tensor) and not torch.isfinite(tensor).all():
        row = int((~torch.isfinite(tensor)).any(1).nonzero()[0])
        raise ValueError(f"{name} must be finite, got {tensor[row].tolist()} in row {row}")


def _check_labels(target: Tensor, batch: int, classes: int) -> None:
    if target.dtype != torch.int64:
        raise TypeError(f"a hard target must be int64 and a soft one floating point, got {target.dtype}")
    if target.shape != (batch,):
        raise ValueError(f"a hard target must be ({batch},) for these logits, got shape {tuple(target.shape)}")
    if _readable(target) and (int(target.min()) < 0 or int(target.max()) >= classes):
        raise ValueError(
            f"target must hold labels 0..{classes - 1}, got values from {int(target.min())} to {int(target.max())}"
        )


def _readable(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
