"""What a model costs: parameters, multiplications, measured speed."""

import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-accumulates of one image's forward pass (convolutions, matrix products, attention)."""

    parameters: int
    macs: int


def cost(model: nn.Module, channels: int, size: tuple[int, int]) -> Cost:
    """Count a model's parameters and multiply-accumulates.

    PyTorch does not count its fused attention on a CPU, so attention is computed as matrix products here.

    Args:
        model: images `(B, channels, H, W)` to logits.
        channels: of an image.
        size: height and width of an image.

    Example:
        >>> import timm, lkd
        >>> from lkd.models.cost import cost
        >>> cost(timm.create_model("mini_resnet", in_chans=1), 1, (32, 32)).parameters
        19810
    """
    was_training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(torch.zeros(1, channels, *size, device=next(model.parameters()).device))
    model.train(was_training)
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)


def images_per_second(
    model: nn.Module, channels: int, size: tuple[int, int], batch: int = 64, repeats: int = 5
) -> float:
    """Speed of a forward pass in eval mode on one thread: median of `repeats` batches, after one to warm up."""
    was_training, threads = model.training, torch.get_num_threads()
    model.eval()
    torch.set_num_threads(1)
    images = torch.zeros(batch, channels, *size, device=next(model.parameters()).device)
    seconds = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            model(images).sum().item()
            seconds.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    model.train(was_training)
    return batch / statistics.median(seconds[1:])
