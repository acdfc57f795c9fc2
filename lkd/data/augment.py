"""Batched augmentation of images in memory; random draws are arguments, one per image."""

import torch
from torch import Tensor


def crop_and_flip(images: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Shift each image, filling with zeros, and mirror it where `flip` is true.

    Args:
        images: `(B, C, H, W)`.
        shift: `(B, 2)` int64, rows and columns that the window moves down and right.
        flip: `(B,)` bool, mirror left to right after the shift.

    Returns:
        `(B, C, H, W)`, dtype of `images`.

    Example:
        >>> import torch
        >>> from lkd.data.augment import crop_and_flip
        >>> image = torch.tensor([[[[1, 2], [3, 4]]]])
        >>> crop_and_flip(image, torch.tensor([[1, 0]]), torch.tensor([True])).tolist()
        [[[[4, 3], [0, 0]]]]
    """
    batch, _, height, width = images.shape
    rows = torch.arange(height) + shift[:, :1]
    columns = torch.arange(width) + shift[:, 1:]
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    inside = _inside(rows, height)[:, :, None] & _inside(columns, width)[:, None, :]
    image = torch.arange(batch)[:, None, None]
    moved = images[image, :, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]]
    return (moved * inside[..., None]).permute(0, 3, 1, 2)


def boxes(centre: Tensor, sides: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask of one box per image, clipped at the border.

    Args:
        centre: `(B, 2)` in [0, 1), relative to height and width.
        sides: `(B, 2)` int64, height and width of the box in pixels.
        size: height and width of the images.

    Returns:
        `(B, 1, H, W)` bool, true inside.
    """
    low = (centre * torch.tensor(size)).long() - sides // 2
    spans = [
        (torch.arange(side) >= low[:, i : i + 1]) & (torch.arange(side) < (low + sides)[:, i : i + 1])
        for i, side in enumerate(size)
    ]
    return (spans[0][:, :, None] & spans[1][:, None, :])[:, None]


def soften(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Label smoothing: targets `(B, classes)`, 1 - smoothing on the label plus smoothing / classes everywhere."""
    rows = torch.full((len(labels), classes), smoothing / classes)
    return rows.scatter_add(1, labels[:, None], torch.full((len(labels), 1), 1 - smoothing))


def _inside(index: Tensor, length: int) -> Tensor:
    return (index >= 0) & (index < length)
