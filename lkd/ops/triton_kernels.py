"""Depthwise convolution as Triton kernels; imported only where Triton is installed.

Along one axis of the map, the long one, a convolution is a product with a banded Toeplitz matrix; the taps along the
other axis are a loop over such products. Each channel has its own matrices, built in registers from the weight.

All kernels accumulate in float32, round once, and use no atomic operation, so results repeat bit by bit. An input that
is not finite makes all of its image's line along the long axis NaN, where a loop over the taps spoils a window only.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from lkd.ops.geometry import crop, layout_of

_LONGEST = 128
"""The longest axis that is convolved by Toeplitz matrices: their cost grows with the square."""
_MOST_TAPS = 121
"""The most taps that are tried one by one."""
_MOST_PRODUCTS = 2**27
"""The most sums that a weight gradient keeps for its second stage: 512 MiB."""


@triton.jit(do_not_specialize=["batch"])
def _toeplitz_kernel(
    input, weight, bias, output, batch, channels, weight_channel, weight_long, weight_short,
    N: tl.constexpr, M: tl.constexpr, LONG: tl.constexpr, SHORT: tl.constexpr, K: tl.constexpr, S: tl.constexpr,
    FLIPPED: tl.constexpr, BIASED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """`output[b,c,l,m] = sum_{j,i} weight[c,i,j] input[b,c,l+i-K//2,m+j-S//2]` for one channel.

    A program computes `ROWS` places of the long axis for `COLUMNS` pairs of image and place on the short axis.
    """
    channel = tl.program_id(0)
    first = tl.program_id(1) * COLUMNS
    column = first + tl.arange(0, COLUMNS)
    place = column % M
    image = column // M
    offset = (image - first // M) * (channels * N * M)
    plane = ((first // M).to(tl.int64) * channels + channel) * (N * M)
    row = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in range(S * BLOCKS):
        j = step // BLOCKS
        inner = (step % BLOCKS) * ROWS + tl.arange(0, ROWS)
        tap = inner[None, :] - row[:, None] + K // 2
        tap_there = (tap >= 0) & (tap < K)
        if FLIPPED:
            tap = K - 1 - tap
        short_tap = S - 1 - j if FLIPPED else j
        taps = weight + channel * weight_channel + tap * weight_long + short_tap * weight_short
        matrix = tl.load(taps, mask=tap_there, other=0.0)
        shifted = place + (j - S // 2)
        column_there = (image < batch) & (shifted >= 0) & (shifted < M)
        pixels = input + plane + (inner[:, None] * LONG + (offset + shifted * SHORT)[None, :])
        tile = tl.load(pixels, mask=(inner < N)[:, None] & column_there[None, :], other=0.0)
        sums = tl.dot(matrix, tile, sums, input_precision="ieee")
    if BIASED:
        sums += tl.load(bias + channel).to(tl.float32)
    pixels = output + plane + (row[:, None] * LONG + (offset + place * SHORT)[None, :])
    tl.store(pixels, sums.to(output.dtype.element_ty), mask=(row < N)[:, None] & (image < batch)[None, :])


@triton.jit(do_not_specialize=["batch", "parts"])
def _toeplitz_products_kernel(
    input, grad, products, batch, channels, parts,
    N: tl.constexpr, M: tl.constexpr, LONG: tl.constexpr, SHORT: tl.constexpr, S: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """`products[z,c,j,l,i] = sum_{b,m} grad[b,c,l,m] input[b,c,i,m+j-S//2]` over the z-th part of the pairs b, m."""
    j = tl.program_id(0) % S
    block = tl.program_id(0) // S
    channel, part = tl.program_id(1), tl.program_id(2)
    row = (block // BLOCKS) * ROWS + tl.arange(0, ROWS)
    inner = (block % BLOCKS) * ROWS + tl.arange(0, ROWS)
    sums = tl.zeros((ROWS, ROWS), tl.float32)
    for turn in range(part, tl.cdiv(batch * M, COLUMNS), parts):
        first = turn * COLUMNS
        column = first + tl.arange(0, COLUMNS)
        place = column % M
        image = column // M
        offset = (image - first // M) * (channels * N * M)
        plane = ((first // M).to(tl.int64) * channels + channel) * (N * M)
        shifted = place + (j - S // 2)
        grads = grad + plane + (row[:, None] * LONG + (offset + place * SHORT)[None, :])
        rows = tl.load(grads, mask=(row < N)[:, None] & (image < batch)[None, :], other=0.0)
        pixels = input + plane + (inner[None, :] * LONG + (offset + shifted * SHORT)[:, None])
        there = (image < batch) & (shifted >= 0) & (shifted < M)
        lines = tl.load(pixels, mask=there[:, None] & (inner < N)[None, :], other=0.0)
        sums = tl.dot(rows, lines, sums, input_precision="ieee")
    SIDE: tl.constexpr = ROWS * BLOCKS
    matrix = products + ((part * channels + channel).to(tl.int64) * S + j) * (SIDE * SIDE)
    tl.store(matrix + row[:, None] * SIDE + inner[None, :], sums)


@triton.jit(do_not_specialize=["parts"])
def _diagonals_kernel(
    products, gradient, channels, parts, gradient_channel, gradient_long, gradient_short,
    N: tl.constexpr, K: tl.constexpr, S: tl.constexpr, SIDE: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """`gradient[c,i,j] = sum_{z,l} products[z,c,j,l,l+i-K//2]`: the sum over a diagonal and over the parts."""
    channel, j = tl.program_id(0), tl.program_id(1)
    tap = tl.program_id(2) * TAPS + tl.arange(0, TAPS)
    row = tl.arange(0, SIDE)
    inner = row[None, :] + tap[:, None] - K // 2
    there = (row < N)[None, :] & (inner >= 0) & (inner < N)
    sums = tl.zeros((TAPS, SIDE), tl.float32)
    for part in range(parts):
        matrix = products + ((part * channels + channel).to(tl.int64) * S + j) * (SIDE * SIDE)
        sums += tl.load(matrix + row[None, :] * SIDE + inner, mask=there, other=0.0)
    places = gradient + channel * gradient_channel + tap * gradient_long + j * gradient_short
    tl.store(places, tl.sum(sums, axis=1).to(gradient.dtype.element_ty), mask=tap < K)


@triton.jit(do_not_specialize=["batch"])
def _taps_kernel(
    input, weight, bias, output, batch, channels, stride_channel, stride_row, stride_column,
    weight_channel, weight_row, weight_column,
    H: tl.constexpr, W: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    FLIPPED: tl.constexpr, BIASED: tl.constexpr, PLACES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """A convolution tap by tap, for `PLACES` places of all images and `CHANNELS` channels, in any memory format."""
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    image = place // (H * W)
    row = place // W % H
    column = place % W
    start = image.to(tl.int64) * (channels * H * W) + row * stride_row + column * stride_column
    offset = start[:, None] + (channel * stride_channel)[None, :]
    place_there = image < batch
    channel_there = channel < channels
    sums = tl.zeros((PLACES, CHANNELS), tl.float32)
    for tap in range(KH * KW):
        i = tap // KW
        j = tap % KW
        down = i - KH // 2
        right = j - KW // 2
        if FLIPPED:
            i = KH - 1 - i
            j = KW - 1 - j
        factors = tl.load(
            weight + channel * weight_channel + i * weight_row + j * weight_column, mask=channel_there, other=0.0
        )
        seen = place_there & (row + down >= 0) & (row + down < H) & (column + right >= 0) & (column + right < W)
        pixels = input + offset + (down * stride_row + right * stride_column)
        values = tl.load(pixels, mask=seen[:, None] & channel_there[None, :], other=0.0)
        sums += values.to(tl.float32) * factors.to(tl.float32)[None, :]
    if BIASED:
        sums += tl.load(bias + channel, mask=channel_there, other=0.0).to(tl.float32)[None, :]
    tl.store(output + offset, sums.to(output.dtype.element_ty), mask=place_there[:, None] & channel_there[None, :])


@triton.jit
def _transpose_kernel(input, output, rows, columns, SIDE: tl.constexpr):
    """Transpose each `rows x columns` matrix of a batch."""
    row = tl.program_id(1) * SIDE + tl.arange(0, SIDE)
    column = tl.program_id(2) * SIDE + tl.arange(0, SIDE)
    matrix = tl.program_id(0).to(tl.int64) * rows * columns
    there = (row < rows)[:, None] & (column < columns)[None, :]
    tile = tl.load(input + matrix + row[:, None] * columns + column[None, :], mask=there)
    tl.store(output + matrix + column[None, :] * rows + row[:, None], tile, mask=there)


class Axes(NamedTuple):
    """The long and the short axis of a map, and the tiles into which Toeplitz products are cut."""

    tall: bool
    """Whether the long axis is the height."""
    long: int
    short: int
    rows: int
    """Places of the long axis in a tile, a power of 2."""
    blocks: int
    """Tiles along the long axis."""


@cache
def forms(operation: str, shape: tuple[int, ...], kernel: tuple[int, ...]) -> dict[str, Callable[..., Tensor]]:
    """The Triton forms of an operation of `lkd.ops.cuda` for a map `(B, C, H, W)` and a kernel, by name."""
    axes, taps = toeplitz_axes(shape, kernel), _taps(shape, kernel)
    by_toeplitz = axes is not None and _fits(shape, axes)
    if operation == "weight_gradient":
        few = axes is not None and shape[1] * taps[axes.tall] * (axes.rows * axes.blocks) ** 2 <= _MOST_PRODUCTS
        return {"toeplitz": toeplitz_weight_gradient} if by_toeplitz and few else {}
    flipped = operation == "input_gradient"
    found: dict[str, Callable[..., Tensor]] = {}
    if by_toeplitz:
        found["toeplitz"] = partial(toeplitz, flipped=flipped)
    if taps[0] * taps[1] <= _MOST_TAPS:
        found["taps"] = partial(tap_by_tap, flipped=flipped)
    return found


@cache
def toeplitz_axes(shape: tuple[int, ...], kernel: tuple[int, ...]) -> Axes | None:
    """The choice of long axis with the fewest multiplications; None if both sides of the map are too long."""
    height, width = shape[2:]
    tall, broad = _taps(shape, kernel)
    found = []
    for is_tall, long, short, shifts in ((True, height, width, broad), (False, width, height, tall)):
        rows = min(64, max(16, triton.next_power_of_2(long)))
        blocks = triton.next_power_of_2(triton.cdiv(long, rows))
        if long <= _LONGEST:
            found.append((shifts * (rows * blocks) ** 2 * short, Axes(is_tall, long, short, rows, blocks)))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def toeplitz(input: Tensor, weight: Tensor, bias: Tensor | None = None, flipped: bool = False) -> Tensor:
    """`F.conv2d(input, weight, bias, groups=C)` by Toeplitz matrices; with `flipped`, the gradient of its input."""
    axes = toeplitz_axes(input.shape, weight.shape[2:])
    assert axes is not None
    images, taps = _planes(input), crop(weight, input)
    output = torch.empty_like(images)
    columns = 64 if input.dtype == torch.float32 and axes.rows == 64 else 128
    batch, channels = input.shape[:2]
    grid = (channels, triton.cdiv(batch * axes.short, columns), axes.blocks)
    with torch.cuda.device_of(input):
        _toeplitz_kernel[grid](
            images, taps, taps if bias is None else bias.contiguous(), output,
            batch, channels, taps.stride(0), *_along(axes, taps),
            **_geometry(axes), K=_side(taps, axes.tall), S=_side(taps, not axes.tall), FLIPPED=flipped,
            BIASED=bias is not None, COLUMNS=columns, num_warps=8 if axes.rows == 64 else 4, num_stages=2,
        )  # fmt: skip
    return _in_layout_of(input, output)


def toeplitz_weight_gradient(input: Tensor, grad: Tensor, kernel: Sequence[int]) -> Tensor:
    """`dL/dweight` as diagonals of products of the input's lines with the gradient's, in two stages."""
    axes = toeplitz_axes(input.shape, tuple(kernel))
    assert axes is not None
    gradient = input.new_zeros(input.shape[1], 1, *kernel)
    taps = crop(gradient, input)
    long_taps, short_taps = _side(taps, axes.tall), _side(taps, not axes.tall)
    side, columns = axes.rows * axes.blocks, 64
    batch, channels = input.shape[:2]
    programs = channels * short_taps * axes.blocks**2
    parts = max(1, min(triton.cdiv(2048, programs), triton.cdiv(batch * axes.short, 4 * columns)))
    products = input.new_empty(parts, channels, short_taps, side, side, dtype=torch.float32)
    with torch.cuda.device_of(input):
        _toeplitz_products_kernel[(short_taps * axes.blocks**2, channels, parts)](
            _planes(input), _planes(grad), products, batch, channels, parts,
            **_geometry(axes), S=short_taps, COLUMNS=columns, num_warps=axes.rows // 16, num_stages=2,
        )  # fmt: skip
        _diagonals_kernel[(channels, short_taps, triton.cdiv(long_taps, 16))](
            products, taps, channels, parts, taps.stride(0), *_along(axes, taps),
            N=axes.long, K=long_taps, S=short_taps, SIDE=side, TAPS=16,
        )  # fmt: skip
    return gradient


def tap_by_tap(input: Tensor, weight: Tensor, bias: Tensor | None = None, flipped: bool = False) -> Tensor:
    """`F.conv2d(input, weight, bias, groups=C)` tap by tap; with `flipped`, the gradient of its input."""
    images, taps = input.contiguous(memory_format=layout_of(input)), crop(weight, input)
    output = torch.empty_like(images)
    batch, channels, height, width = input.shape
    last = layout_of(input) == torch.channels_last
    strides = (1, width * channels, channels) if last else (height * width, width, 1)
    places, together = (64, 32) if last else (512, 1)
    with torch.cuda.device_of(input):
        _taps_kernel[(triton.cdiv(batch * height * width, places), triton.cdiv(channels, together))](
            images, taps, taps if bias is None else bias.contiguous(), output, batch, channels, *strides,
            taps.stride(0), taps.stride(2), taps.stride(3),
            H=height, W=width, KH=taps.shape[2], KW=taps.shape[3],
            FLIPPED=flipped, BIASED=bias is not None, PLACES=places, CHANNELS=together, num_warps=4,
        )  # fmt: skip
    return output


def _taps(shape: Sequence[int], kernel: Sequence[int]) -> tuple[int, int]:
    """Height and width of a kernel without taps that only meet padding."""
    return min(kernel[0], 2 * shape[2] - 1), min(kernel[1], 2 * shape[3] - 1)


def _fits(shape: Sequence[int], axes: Axes) -> bool:
    """Whether offsets from the first image of a tile fit into 32 bits."""
    return (256 // axes.short + 2) * shape[1] * shape[2] * shape[3] < 2**31


def _geometry(axes: Axes) -> dict[str, int]:
    """Sizes and strides of a contiguous map along its axes."""
    long, short = (axes.short, 1) if axes.tall else (1, axes.long)
    return dict(N=axes.long, M=axes.short, LONG=long, SHORT=short, ROWS=axes.rows, BLOCKS=axes.blocks)


def _along(axes: Axes, weight: Tensor) -> tuple[int, int]:
    """Strides of a weight along the long and the short axis."""
    return (weight.stride(2), weight.stride(3)) if axes.tall else (weight.stride(3), weight.stride(2))


def _side(weight: Tensor, height: bool) -> int:
    return weight.shape[2 if height else 3]


def _planes(input: Tensor) -> Tensor:
    """`(B, C, H, W)` contiguous in memory."""
    if layout_of(input) != torch.channels_last:
        return input.contiguous()
    return _transposed(input.permute(0, 2, 3, 1).flatten(1, 2)).view(input.shape)


def _in_layout_of(input: Tensor, output: Tensor) -> Tensor:
    """A contiguous output in the memory format of the input."""
    if layout_of(input) != torch.channels_last:
        return output
    return _transposed(output.flatten(2)).unflatten(1, output.shape[2:]).permute(0, 3, 1, 2)


def _transposed(matrices: Tensor) -> Tensor:
    batch, rows, columns = matrices.shape
    output = matrices.new_empty(batch, columns, rows)
    with torch.cuda.device_of(matrices):
        _transpose_kernel[(batch, triton.cdiv(rows, 64), triton.cdiv(columns, 64))](
            matrices, output, rows, columns, SIDE=64, num_warps=4
        )
    return output
