"""Tensor functions shared by several objectives."""

import torch
import torch.nn.functional as F
from torch import Tensor


def upcast(tensor: Tensor) -> Tensor:
    """Cast to at least float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Batch mean of `-sum_i q_i log softmax(z)_i`, for a hard `(B,)` or a soft `(B, C)` target."""
    return F.cross_entropy(logits, target.to(logits.dtype) if target.is_floating_point() else target)


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over batch and classes of `-q_i log s_i - (1 - q_i) log(1 - s_i)` with `s = sigmoid(z)`.

    A hard `(B,)` target is converted to one-hot.
    """
    shares = target if target.is_floating_point() else F.one_hot(target, logits.shape[1])
    return F.binary_cross_entropy_with_logits(logits, shares.to(logits.dtype))


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Batch mean of `KL(softmax(z_t / T) || softmax(z_s / T))`."""
    log_p_student = F.log_softmax(student / temperature, dim=1)
    log_p_teacher = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(log_p_student, log_p_teacher, reduction="batchmean", log_target=True)


def hard_label(target: Tensor) -> Tensor:
    """Labels `(B,)`: a hard target unchanged, the first maximum of a soft one."""
    return target.argmax(1) if target.is_floating_point() else target


def without_label(logits: Tensor, label: Tensor) -> Tensor:
    """Logits `(B, C-1)` of all classes except the label."""
    column = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, column + (column >= label[:, None]).long())
