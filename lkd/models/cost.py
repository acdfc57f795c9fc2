"""Parameters, multiply-accumulates and speed of a model."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from lkd.models.inference import device_of, in_eval_mode


@dataclass(frozen=True)
class Cost:
    """Parameters and multiply-accumulates of a model, in total and non-zero.

    Devices store and multiply the zeros of a sparse model too: `parameters` and `macs` are the real cost. Papers on
    sparse models often report the non-zero counts.

    Attributes:
        parameters: total number of parameters.
        macs: multiply-accumulates of one image's forward pass: convolutions, matrix products, attention.
        nonzero_parameters: parameters without the zeros of matrices and kernels; vectors (biases, norms) count in full.
        nonzero_macs: multiply-accumulates, with convolutions and linear layers scaled by their weight's non-zero share.
    """

    parameters: int
    macs: int
    nonzero_parameters: int
    nonzero_macs: int


def cost(model: nn.Module, channels: int, size: tuple[int, int]) -> Cost:
    """Count a model's parameters and multiply-accumulates, with and without its zeros.

    Attention is computed as matrix products here, because PyTorch does not count fused attention on a CPU.

    Args:
        model: maps images `(B, channels, H, W)` to logits.
        channels: image channels.
        size: image height and width.

    Example:
        >>> import timm, lkd
        >>> from lkd.models.cost import cost
        >>> cost(timm.create_model("mini_resnet", in_chans=1), 1, (32, 32)).parameters
        19810
    """
    images = torch.zeros(1, channels, *size, device=device_of(model))
    with (
        in_eval_mode(model),
        FlopCounterMode(display=False) as counter,
        sdpa_kernel(SDPBackend.MATH),
        torch.no_grad(),
    ):
        model(images)
    parameters, macs = sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2
    zeros = sum(_zeros(p) for p in model.parameters() if p.ndim > 1)
    return Cost(parameters, macs, parameters - zeros, macs - _macs_of_zeros(model, counter))


def _macs_of_zeros(model: nn.Module, counter: FlopCounterMode) -> int:
    """Multiply-accumulates with zero weights in convolutions and linear layers."""
    root = type(model).__name__
    by_path = counter.get_flop_counts()
    counts = {path.removeprefix(root): sum(ops.values()) // 2 for path, ops in by_path.items() if path != "Global"}
    total = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | _ConvNd):
            macs = counts.get(f".{name}" if name else "", 0)
            total += macs * _zeros(module.weight) // module.weight.numel()
    return total


def _zeros(weight: Tensor) -> int:
    return weight.numel() - int(weight.count_nonzero())


def images_per_second(
    model: nn.Module, channels: int, size: tuple[int, int], batch: int = 64, repeats: int = 5
) -> float:
    """Inference speed in images/s on one thread: the median of `repeats` batches after one warm-up batch."""
    images = torch.zeros(batch, channels, *size, device=device_of(model))
    with in_eval_mode(model), torch.no_grad():
        return batch / median_seconds(lambda: model(images).sum().item(), repeats)


def median_seconds(work: Callable[[], object], repeats: int, threads: int = 1) -> float:
    """Median duration of `repeats` calls after one warm-up call, with a number of PyTorch's threads.

    Example:
        >>> from lkd.models.cost import median_seconds
        >>> median_seconds(lambda: None, repeats=3) < 1
        True
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    seconds = []
    try:
        for _ in range(repeats + 1):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return statistics.median(seconds[1:])
