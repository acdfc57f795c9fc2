"""Truncated teacher distributions: the top K classes, the label and the remaining mass."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class TopK(NamedTuple):
    """Truncated log-probabilities of a batch, float32.

    `values` and `classes` `(B, K)`: the top K classes; `label` `(B,)`: the label; `rest` `(B,)`: all other classes.
    """

    values: Tensor
    classes: Tensor
    label: Tensor
    rest: Tensor


def compress(logits: Tensor, label: Tensor, k: int) -> TopK:
    """Truncate each row to its top K classes, the label and the remaining mass.

    Args:
        logits: `(B, C)` float.
        label: `(B,)` int64.
        k: 1 to C - 2.

    Example:
        >>> import torch
        >>> from lkd.engine.top_k import compress
        >>> compress(torch.tensor([[3.0, 2.0, 1.0, 0.0]]), torch.tensor([3]), 2).classes
        tensor([[0, 1]], dtype=torch.int32)
    """
    log_p = F.log_softmax(logits.float(), dim=1)
    values, classes = log_p.topk(k, dim=1)
    named = torch.zeros_like(log_p, dtype=torch.bool).scatter_(1, classes, True).scatter_(1, label[:, None], True)
    rest = log_p.masked_fill(named, -torch.inf).logsumexp(1)
    return TopK(values, classes.int(), log_p.gather(1, label[:, None]).squeeze(1), rest)


def expand(short: TopK, label: Tensor, classes: int) -> Tensor:
    """Logits `(B, classes)` of a truncated distribution, with the remaining mass spread evenly over its classes.

    Args:
        short: the result of `compress`.
        label: `(B,)` int64, the same labels as for `compress`.
        classes: C.

    Example:
        >>> import torch
        >>> from lkd.engine.top_k import expand, compress
        >>> logits, label = torch.tensor([[3.0, 2.0, 0.0, 0.0, 0.0]]), torch.tensor([0])
        >>> p = expand(compress(logits, label, 2), label, 5).softmax(1)
        >>> bool(torch.allclose(p, logits.softmax(1)))
        True
    """
    index = short.classes.long()
    others = classes - short.values.shape[1] - (index != label[:, None]).all(1).float()
    logits = (short.rest - others.log())[:, None].repeat(1, classes)
    return logits.scatter_(1, label[:, None], short.label[:, None]).scatter_(1, index, short.values)


def divergence(logits: Tensor, label: Tensor, k: int) -> Tensor:
    """`KL(p || p~)` in nats for each row, where `p~` is the distribution after `compress` and `expand`.

    Example:
        >>> import torch
        >>> from lkd.engine.top_k import divergence
        >>> divergence(torch.tensor([[3.0, 1.0, 1.0, 1.0]]), torch.tensor([0]), 1).abs().item() < 1e-6
        True
    """
    short = expand(compress(logits, label, k), label, logits.shape[1])
    terms = F.kl_div(short.log_softmax(1), logits.float().log_softmax(1), reduction="none", log_target=True)
    return terms.sum(1)
