"""Effective receptive field: the pixels that affect the centre of a network's feature map."""

from lkd.erf.analysis import AreaRatio, Distance, area_ratios, effective_share, erf_distance
from lkd.erf.contribution import contribution_map
from lkd.erf.images import sample_images
from lkd.erf.sizes import at_size

__all__ = [
    "AreaRatio",
    "Distance",
    "area_ratios",
    "at_size",
    "contribution_map",
    "effective_share",
    "erf_distance",
    "sample_images",
]
