"""Comparison of an exported file with its network, on real images."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lkd.models.inference import rounding


class Comparison(NamedTuple):
    """Outputs of an exported file against those of its network.

    Args:
        images: number of images.
        difference: largest difference of a logit.
        tolerance: largest difference that counts as rounding: `sqrt(eps)` times the largest logit.
    """

    images: int
    difference: float
    tolerance: float


@torch.no_grad()
def compare(made: nn.Module, model: nn.Module, images: Tensor) -> Comparison:
    """Compare two networks; the first gets the images in batches of two sizes.

    Raises:
        FloatingPointError: logits of `model` that are not finite.
        ValueError: `made` fails, or its logits differ by more than the tolerance.

    Example:
        >>> import timm, torch, lkd
        >>> from lkd.export.difference import compare
        >>> model = timm.create_model("mini_vit").eval()
        >>> compare(model, model, torch.zeros(3, 3, 32, 32)).images
        3
    """
    expected = model(images)
    if not expected.isfinite().all():
        raise FloatingPointError("the network's logits of the test images are not finite: nothing was exported")
    given = torch.cat([made(part) for part in (images[:1], images[1:]) if len(part)])
    found = Comparison(len(images), float((given - expected).abs().max()), rounding(expected))
    if not found.difference <= found.tolerance:
        raise ValueError(
            f"the exported file differs from the network by up to {found.difference:.3g} on {found.images} test "
            f"images, more than rounding ({found.tolerance:.3g}): nothing was kept"
        )
    return found
