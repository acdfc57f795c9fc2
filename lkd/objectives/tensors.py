"""Pieces that several objectives share."""

import torch
import torch.nn.functional as F
from torch import Tensor


def upcast(logits: Tensor) -> Tensor:
    """At least float32."""
    return logits if logits.dtype == torch.float64 else logits.float()


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of `-sum_i q_i log softmax(z)_i`, for a hard `(B,)` or a soft `(B, C)` target."""
    return F.cross_entropy(logits, target.to(logits.dtype) if target.is_floating_point() else target)


def hard_label(target: Tensor) -> Tensor:
    """`(B,)` labels: a hard target itself, the first maximum of a soft one."""
    return target.argmax(1) if target.is_floating_point() else target


def without_label(logits: Tensor, label: Tensor) -> Tensor:
    """The `(B, C-1)` logits of all classes but the label's."""
    column = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, column + (column >= label[:, None]).long())
