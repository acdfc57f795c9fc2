"""Several teachers as one network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lkd.util.checks import check_number


class Ensemble(nn.Module):
    """Several networks as one teacher, with the weighted mean of their probabilities.

    The logits are log sum_m w_m softmax(z_m), with logits z_m and weights w_m that sum to 1: their softmax is the mean.
    They fit every objective on logits; a temperature softens the mean. There are no feature maps.

    Args:
        members: at least two networks, images `(B, C, H, W)` to logits `(B, classes)`; `Normalized` for those with a
            normalisation of their own.
        weights: one positive number per member, with any sum; equal by default.

    Raises:
        TypeError: a member that is not a module, or a weight that is not a number.
        ValueError: fewer than two members, another number of weights, or one that is not above 0.

    Example:
        >>> import timm, torch
        >>> from lkd.models import Ensemble
        >>> members = [timm.create_model(name, num_classes=10).eval() for name in ("mini_slak", "mini_convnext")]
        >>> images = torch.rand(2, 3, 32, 32)
        >>> mean = 0.75 * members[0](images).softmax(1) + 0.25 * members[1](images).softmax(1)
        >>> torch.allclose(Ensemble(members, weights=[3, 1])(images).softmax(1), mean, atol=1e-6)
        True
    """

    log_weights: Tensor

    def __init__(self, members: Sequence[nn.Module], weights: Sequence[float] | None = None):
        super().__init__()
        if len(members) < 2:
            raise ValueError(f"an ensemble needs at least two members, got {len(members)}: give a single one by itself")
        for place, member in enumerate(members):
            if not isinstance(member, nn.Module):
                raise TypeError(f"members[{place}] must be an nn.Module, got a {type(member).__name__}")
        if weights is not None and len(weights) != len(members):
            raise ValueError(f"weights must have one number per member, got {len(weights)} for {len(members)} members")
        for place, weight in enumerate(weights or ()):
            check_number(f"weights[{place}]", weight, 0, above=True)
        self.members = nn.ModuleList(members)
        given = torch.tensor([float(weight) for weight in weights or [1.0] * len(members)])
        self.register_buffer("log_weights", (given / given.sum()).log())

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, classes)`, float32 or wider.

        Raises:
            ValueError: members with different numbers of classes.
        """
        logits = [member(images) for member in self.members]
        if len({each.shape for each in logits}) > 1:
            shapes = ", ".join(str(tuple(each.shape)) for each in logits)
            raise ValueError(f"the members of an ensemble must have the same classes, got logits of shapes {shapes}")
        stacked = torch.stack([each if each.dtype == torch.float64 else each.float() for each in logits])
        return (stacked.log_softmax(-1) + self.log_weights[:, None, None]).logsumexp(0)
