"""Robustness: corruptions of 32x32 images, and evaluation on ImageNet-C, -A, -R and -Sketch."""

from lkd.robustness.corrupted_images import CLEAN, corrupted, corruption_errors
from lkd.robustness.corruptions import STRENGTHS, corrupt
from lkd.robustness.folders import SETS, class_indices
from lkd.robustness.imagenet import PROTOCOLS, imagenet_robustness
from lkd.robustness.scores import (
    ALEXNET,
    CORRUPTIONS,
    EXTRA,
    SEVERITIES,
    STANDARD,
    by_corruption,
    imagenet_c_scores,
    mean_corruption_error,
    mean_error,
    subset_top1,
)

__all__ = [
    "ALEXNET",
    "CLEAN",
    "CORRUPTIONS",
    "EXTRA",
    "PROTOCOLS",
    "SETS",
    "SEVERITIES",
    "STANDARD",
    "STRENGTHS",
    "by_corruption",
    "class_indices",
    "corrupt",
    "corrupted",
    "corruption_errors",
    "imagenet_c_scores",
    "imagenet_robustness",
    "mean_corruption_error",
    "mean_error",
    "subset_top1",
]
