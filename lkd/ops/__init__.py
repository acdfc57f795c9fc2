"""Fast large-kernel depthwise convolution for CPUs and, with Triton, for CUDA devices."""

from lkd.ops.cuda import DepthwiseChoice, depthwise_choices
from lkd.ops.depthwise import DepthwiseConv2d, depthwise_branches, depthwise_conv2d, fast_depthwise, slow_depthwise

__all__ = [
    "DepthwiseChoice",
    "DepthwiseConv2d",
    "depthwise_branches",
    "depthwise_choices",
    "depthwise_conv2d",
    "fast_depthwise",
    "slow_depthwise",
]
