"""Shapes and memory formats of 'same' convolutions."""

import torch
from torch import Tensor


def crop(weight: Tensor, input: Tensor) -> Tensor:
    """Remove the taps of a kernel that lie outside the map at every position."""
    rows, columns = (max(0, k // 2 - n + 1) for k, n in zip(weight.shape[2:], input.shape[2:], strict=True))
    return weight[:, :, rows : weight.shape[2] - rows, columns : weight.shape[3] - columns]


def layout_of(input: Tensor) -> torch.memory_format:
    """Channels last where the memory is so and not contiguous too; else contiguous."""
    last = input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def same_padding(weight: Tensor) -> tuple[int, int]:
    """Padding that keeps the size of the map."""
    return weight.shape[2] // 2, weight.shape[3] // 2
