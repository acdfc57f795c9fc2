"""SLaK's decomposed kernels and CSWin's stripes against slow constructions of their own, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lkd.models.cswin import CSWin, CSWinBlock, StripeAttention
from lkd.models.slak import Block, LargeKernel, SLaK


def settled(module):
    """In float64, every weight and statistic of it drawn at random, in eval mode."""
    torch.manual_seed(0)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.double().normal_()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_var.uniform_(0.5, 2)
    return module.eval()


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


# SLaK ---------------------------------------------------------------------------------------------------------------


def conv_then_norm(state, name, x):
    """A depthwise convolution with 'same' padding, then batch norm written out."""
    weight = state[f"{name}.conv.weight"]
    y = F.conv2d(x, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2), groups=x.shape[1])
    mean, var, scale, shift = (
        state[f"{name}.bn.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (y - mean) / torch.sqrt(var + 1e-5) * scale + shift


@pytest.mark.parametrize("size", [(8, 8), (5, 12)])
def test_a_decomposed_kernel_is_the_sum_of_three_branches(size):
    layer, x = settled(LargeKernel(3, 13, 5)), normal(2, 3, *size)
    state = layer.state_dict()
    sides = {name: tuple(state[f"{name}.conv.weight"].shape) for name in ("LoRA1", "LoRA2", "small_conv")}
    assert sides == {"LoRA1": (3, 1, 13, 5), "LoRA2": (3, 1, 5, 13), "small_conv": (3, 1, 5, 5)}
    torch.testing.assert_close(layer(x), sum(conv_then_norm(state, name, x) for name in sides))


def test_a_whole_kernel_is_one_branch():
    layer, x = settled(LargeKernel(3, 7, None)), normal(2, 3, 6, 9)
    torch.testing.assert_close(layer(x), conv_then_norm(layer.state_dict(), "lkb_origin", x))


def test_a_block_is_a_residual_of_kernel_norm_and_two_linear_layers():
    block, x = settled(Block(3, 7, None, 0.0, 0.1)), normal(2, 3, 4, 5)
    state, y = block.state_dict(), normal(2, 3, 4, 5)
    mixed = conv_then_norm(state, "large_kernel.lkb_origin", x)
    for b, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(5)).tolist():
        pixel = mixed[b, :, i, j]
        pixel = (pixel - pixel.mean()) / torch.sqrt(pixel.var(unbiased=False) + 1e-6)
        pixel = state["pwconv1.weight"] @ (pixel * state["norm.weight"] + state["norm.bias"]) + state["pwconv1.bias"]
        pixel = pixel * (1 + torch.erf(pixel / math.sqrt(2))) / 2
        pixel = state["pwconv2.weight"] @ pixel + state["pwconv2.bias"]
        y[b, :, i, j] = x[b, :, i, j] + state["gamma"] * pixel
    torch.testing.assert_close(block(x), y)


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_kernel_not_larger_than_the_small_one_is_refused(kernel):
    with pytest.raises(ValueError, match=f"kernel must be larger than small_kernel=5, got {kernel}"):
        SLaK(dims=(8,), depths=(1,), kernel_sizes=(kernel,), small_kernel=5)


def test_stages_of_different_number_are_refused():
    with pytest.raises(ValueError, match=r"kernel_sizes need one entry for each stage.*kernel_sizes=\(7,\)"):
        SLaK(dims=(8, 16), depths=(1, 1), kernel_sizes=(7,))


def test_width_factor_rounds_down_as_the_released_code_does():
    with torch.device("meta"):
        net = SLaK(width_factor=1.3)
    assert [info["num_chs"] for info in net.feature_info] == [124, 249, 499, 998]


def test_slak_tiny_has_the_parameters_of_the_paper_s_net():
    with torch.device("meta"):
        assert sum(p.numel() for p in SLaK(width_factor=1.3).parameters()) == 50_703_838
        students = SLaK(kernel_sizes=(7, 7, 7, 7), small_kernel=None)
    assert sum(p.numel() for p in students.parameters()) == 28_595_752


# CSWin --------------------------------------------------------------------------------------------------------------


def stripe_of(row, column, stripe, side):
    """The pixels (y, x) that share a stripe with (row, column)."""
    tall, broad = (given or whole for given, whole in zip(stripe, side, strict=True))
    return [
        (y, x)
        for y in range(side[0])
        for x in range(side[1])
        if y // tall == row // tall and x // broad == column // broad
    ]


def slow_attention(lepe, qkv, side, heads, stripe):
    """Softmax attention and LePE, pixel by pixel and head by head, over the stripe of the pixel."""
    batch, _, _, dim = qkv.shape
    q, k, v = qkv.reshape(batch, *side, 3, dim).unbind(3)
    width = dim // heads
    out = torch.empty(batch, *side, dim, dtype=torch.float64)
    for b, row, column in torch.cartesian_prod(torch.arange(batch), *map(torch.arange, side)).tolist():
        pixels = stripe_of(row, column, stripe, side)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = [(q[b, row, column, part] @ k[b, y, x, part]).item() / math.sqrt(width) for y, x in pixels]
            powers = [math.exp(score) for score in scores]
            values = [v[b, y, x, part] for y, x in pixels]
            out[b, row, column, part] = sum(p * value for p, value in zip(powers, values, strict=True)) / sum(powers)
        out[b, row, column] += lepe.bias
        for y, x in pixels:
            if abs(y - row) <= 1 and abs(x - column) <= 1:
                out[b, row, column] += lepe.weight[:, 0, y - row + 1, x - column + 1] * v[b, y, x]
    return out.reshape(batch, -1, dim)


@pytest.mark.parametrize("stripe", [(None, 2), (2, None), (None, 1), (None, None), (2, 3)])
def test_stripe_attention_is_attention_and_lepe_inside_each_stripe(stripe):
    layer, qkv = settled(StripeAttention(4, 2, stripe)), normal(2, 4 * 6, 3, 4)
    with torch.no_grad():
        torch.testing.assert_close(layer(qkv, (4, 6)), slow_attention(layer.get_v, qkv, (4, 6), 2, stripe))


def test_a_block_splits_channels_and_heads_between_vertical_and_horizontal_stripes():
    block, x, side = settled(CSWinBlock(8, 4, split=2, drop_path=0.0)), normal(2, 24, 8), (4, 6)
    with torch.no_grad():
        q, k, v = block.qkv(block.norm1(x)).chunk(3, dim=2)
        halves = []
        for half, stripe in enumerate([(None, 2), (2, None)]):
            qkv = torch.stack([t[..., 4 * half : 4 * half + 4] for t in (q, k, v)], 2)
            halves.append(slow_attention(block.attns[half].get_v, qkv, side, 2, stripe))
        y = x + block.proj(torch.cat(halves, 2))
        hidden = block.mlp.fc1(block.norm2(y))
        y = y + block.mlp.fc2(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2)
        torch.testing.assert_close(block(x, side), y)


def reach(layer, side, row, column):
    """The pixels whose q, k and v reach the output at (row, column)."""
    qkv = normal(1, side[0] * side[1], 3, 4).requires_grad_()
    layer(qkv, side)[0, row * side[1] + column].sum().backward()
    touched = qkv.grad[0].abs().sum((1, 2)).reshape(side)
    return {(y, x) for y, x in touched.nonzero().tolist()}


@pytest.mark.parametrize("stripe", [(None, 2), (2, None)])
def test_nothing_crosses_the_border_of_a_stripe(stripe):
    layer = settled(StripeAttention(4, 2, stripe))
    for pixel in ((0, 1), (1, 2), (3, 5)):
        assert reach(layer, (4, 6), *pixel) == set(stripe_of(*pixel, stripe, (4, 6)))


def test_the_first_half_of_the_channels_is_vertical_and_the_second_horizontal():
    block, side = settled(CSWinBlock(8, 4, split=2, drop_path=0.0)), (4, 6)
    for half, expected in ((0, stripe_of(1, 2, (None, 2), side)), (1, stripe_of(1, 2, (2, None), side))):
        seen = []
        hook = block.proj.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        x = normal(1, 24, 8).requires_grad_()
        block(x, side)
        hook.remove()
        seen[0][0, 1 * side[1] + 2, 4 * half : 4 * half + 4].sum().backward()
        touched = x.grad[0].abs().sum(1).reshape(side).nonzero().tolist()
        assert {tuple(pixel) for pixel in touched} == set(expected)


def test_the_last_stage_attends_over_the_whole_map():
    block = settled(CSWinBlock(4, 2, split=None, drop_path=0.0))
    x = normal(1, 24, 4).requires_grad_()
    block(x, (4, 6))[0, 0].sum().backward()
    assert (x.grad[0].abs().sum(1) > 0).all()


def test_a_map_that_does_not_divide_into_stripes_is_refused():
    with pytest.raises(ValueError, match="4x5 map does not divide into 4x2 stripes"):
        StripeAttention(4, 2, (None, 2))(normal(1, 20, 3, 4), (4, 5))


def test_cswin_tiny_has_the_parameters_of_the_paper_s_net():
    with torch.device("meta"):
        assert sum(p.numel() for p in CSWin().parameters()) == 22_320_552
