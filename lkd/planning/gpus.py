"""Peak rates and memory of common GPUs, from their vendor's data sheets."""

from typing import NamedTuple

from lkd.util.checks import check_number, unknown

UTILISATION = 0.3
"""Assumed share of the peak rate for networks of ImageNet's size; small networks reach less."""


class GPU(NamedTuple):
    """Peak rates of dense matrix products, in TFLOP/s, and memory.

    Args:
        name: full name.
        half: rate in bf16 or fp16 with float32 accumulation.
        single: rate in float32 on ordinary cores, the default of `lkd.Options(matmul=...)`.
        gigabytes: memory.
    """

    name: str
    half: float
    single: float
    gigabytes: int


GPUS = {
    "v100": GPU("NVIDIA V100 SXM2 32 GB", 125.0, 15.7, 32),
    "t4": GPU("NVIDIA T4", 65.0, 8.1, 16),
    "a10": GPU("NVIDIA A10", 125.0, 31.2, 24),
    "a100": GPU("NVIDIA A100 SXM 80 GB", 312.0, 19.5, 80),
    "l4": GPU("NVIDIA L4", 121.0, 30.3, 24),
    "l40s": GPU("NVIDIA L40S", 362.0, 91.6, 48),
    "h100": GPU("NVIDIA H100 SXM", 989.0, 67.0, 80),
    "h200": GPU("NVIDIA H200 SXM", 989.0, 67.0, 141),
    "rtx3090": GPU("NVIDIA GeForce RTX 3090", 71.0, 35.6, 24),
    "rtx4090": GPU("NVIDIA GeForce RTX 4090", 165.2, 82.6, 24),
}
"""GPUs by short name.

Sources: NVIDIA's data sheets of V100, T4, A10, A100, L4, L40S, H100 and H200; its whitepapers of the GA102 and Ada
architectures for the GeForce cards. Rates that a sheet states with structured sparsity are halved here. V100 and T4
have no bf16.
"""


def seconds_on(gpu: str, flops: float, half: bool, utilisation: float = UTILISATION) -> float:
    """Seconds on a GPU at a share of its peak rate.

    Args:
        gpu: a key of `GPUS`.
        flops: floating-point operations, two per multiply-accumulate.
        half: whether they are in bf16 or fp16 instead of float32.
        utilisation: share of the peak rate, above 0 and at most 1.

    Raises:
        KeyError: an unknown GPU.
        TypeError, ValueError: an invalid `utilisation`.

    Example:
        >>> from lkd.planning import seconds_on
        >>> seconds_on("a100", 312e12, half=True, utilisation=0.5)
        2.0
    """
    if gpu not in GPUS:
        raise KeyError(unknown("GPU", gpu, GPUS))
    check_number("utilisation", utilisation, 0, 1, above=True)
    peak = GPUS[gpu].half if half else GPUS[gpu].single
    return flops / (1e12 * peak * utilisation)
