"""CSWin: attention and the whole network against loops over pixels, and the interface of a timm model."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import DropPath

from lkd.models.cswin import CSWinBlock, StripeAttention

SMALL = dict(dims=(4, 8, 8), depths=(1, 2, 1), heads=(2, 4, 2), splits=(1, 2, None), embed=(7, 4, 2), num_classes=5)


def cswin(seed=0, **kwargs):
    model = timm.create_model("cswin_tiny", **{**SMALL, **kwargs})
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    return model.eval()


def images(*size, batch=2):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


# Reference ----------------------------------------------------------------------------------------------------------


def layer_norm(weights, name, x):
    x = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def stripe_attention(weights, name, q, k, v, heads, tall, broad):
    """On maps (H, W, C), by stripe and head; the convolution of v is limited to its stripe."""
    out = torch.zeros_like(q)
    for top in range(0, q.shape[0], tall):
        for left in range(0, q.shape[1], broad):
            here = slice(top, top + tall), slice(left, left + broad)
            for channels in torch.arange(q.shape[2]).chunk(heads):
                query, key, value = (t[here][..., channels].flatten(0, 1) for t in (q, k, v))
                scores = (query @ key.T / math.sqrt(len(channels))).exp()
                mixed = scores @ value / scores.sum(1, keepdim=True)
                out[(*here, channels)] = mixed.reshape(tall, broad, -1)
            kernel, bias = weights[f"{name}.get_v.weight"], weights[f"{name}.get_v.bias"]
            lepe = F.conv2d(v[here].permute(2, 0, 1), kernel, bias, padding=1, groups=q.shape[2])
            out[here] += lepe.permute(1, 2, 0)
    return out


def block(weights, name, x, heads, split):
    height, width, dim = x.shape
    q, k, v = linear(weights, f"{name}.qkv", layer_norm(weights, f"{name}.norm1", x)).chunk(3, -1)
    if split is None:
        mixed = stripe_attention(weights, f"{name}.attns.0", q, k, v, heads, height, width)
    else:
        first, second = ([t[..., half] for t in (q, k, v)] for half in (slice(dim // 2), slice(dim // 2, None)))
        vertical = stripe_attention(weights, f"{name}.attns.0", *first, heads // 2, height, split)
        horizontal = stripe_attention(weights, f"{name}.attns.1", *second, heads // 2, split, width)
        mixed = torch.cat([vertical, horizontal], -1)
    x = x + linear(weights, f"{name}.proj", mixed)
    hidden = linear(weights, f"{name}.mlp.fc1", layer_norm(weights, f"{name}.norm2", x))
    return x + linear(weights, f"{name}.mlp.fc2", hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2)


def slow_maps(weights, image, depths, heads, splits):
    """The map (H, W, C) of each stage for one image."""
    embed = F.conv2d(image, weights["stage1_conv_embed.0.weight"], weights["stage1_conv_embed.0.bias"], 4, 2)
    x, maps = layer_norm(weights, "stage1_conv_embed.2", embed.permute(1, 2, 0)), []
    for stage, depth in enumerate(depths):
        if stage:
            name = f"merge{stage}"
            conv = F.conv2d(x.permute(2, 0, 1), weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"], 2, 1)
            x = layer_norm(weights, f"{name}.norm", conv.permute(1, 2, 0))
        for i in range(depth):
            x = block(weights, f"stage{stage + 1}.{i}", x, heads[stage], splits[stage])
        maps.append(x)
    return maps


@pytest.mark.parametrize("size", [(32, 32), (16, 48), (48, 32)])
def test_the_network_is_the_forward_pass_written_out(size):
    model, image = cswin().double(), images(*size, batch=1).double()
    weights = model.state_dict()
    form = SMALL["depths"], SMALL["heads"], SMALL["splits"]
    with torch.no_grad():
        maps = slow_maps(weights, image[0], *form)
        tokens = layer_norm(weights, "norm", maps[-1]).flatten(0, 1)
        torch.testing.assert_close(model.forward_features(image)[0], tokens)
        torch.testing.assert_close(model(image)[0], linear(weights, "head", tokens.mean(0)))
        for ours, slow in zip(model.forward_intermediates(image, intermediates_only=True), maps, strict=True):
            torch.testing.assert_close(ours[0].permute(1, 2, 0), slow)


def test_a_stripe_as_wide_as_the_map_is_attention_over_the_whole_map():
    """Two branches with half the heads each are equivalent to the release's single branch."""
    two, one = cswin(depths=(1, 1, 1), splits=(8, 2, None)), cswin(depths=(1, 1, 1), splits=(None, 2, None))
    state = {key: value for key, value in two.state_dict().items() if not key.startswith("stage1.0.attns")}
    for kind in ("weight", "bias"):
        branches = [two.get_parameter(f"stage1.0.attns.{branch}.get_v.{kind}") for branch in (0, 1)]
        state[f"stage1.0.attns.0.get_v.{kind}"] = torch.cat(branches)
    one.load_state_dict(state)
    torch.testing.assert_close(one(images(32, 32)), two(images(32, 32)))


# Attention ----------------------------------------------------------------------------------------------------------


def settled(module):
    """Convert to float64 with random weights, in eval mode."""
    torch.manual_seed(0)
    for tensor in module.parameters():
        tensor.data = tensor.data.double().normal_()
    return module.eval()


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


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
    """The pixels with an influence of q, k and v on the output at (row, column)."""
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


# As a timm model ----------------------------------------------------------------------------------------------------


def test_cswin_tiny_is_the_paper_s_net():
    with torch.device("meta"):
        model = timm.create_model("cswin_tiny")
    assert sum(p.numel() for p in model.parameters()) == 22_320_552
    assert [info["num_chs"] for info in model.feature_info] == [64, 128, 256, 512]
    assert [info["reduction"] for info in model.feature_info] == [4, 8, 16, 32]
    assert model.num_features == 512 and model.stage4[0].attns[0].stripe == (None, None)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes["stage3.20.attns.1.get_v.weight"] == (128, 1, 3, 3) and shapes["merge3.conv.bias"] == (512,)
    assert shapes["stage4.0.attns.0.get_v.weight"] == (512, 1, 3, 3) and shapes["stage1.0.qkv.bias"] == (192,)


def test_its_preprocessing_is_that_of_the_release():
    with torch.device("meta"):
        data = timm.data.resolve_model_data_config(timm.create_model("cswin_tiny"))
    assert data["input_size"] == (3, 224, 224) and data["crop_pct"] == 0.9 and data["interpolation"] == "bicubic"
    assert data["mean"] == timm.data.IMAGENET_DEFAULT_MEAN and data["std"] == timm.data.IMAGENET_DEFAULT_STD


@pytest.mark.parametrize(("size", "rows"), [((112, 112), 4 * 4), ((336, 112), 11 * 4)])
def test_other_sizes_that_divide_into_the_stripes_of_the_paper_are_taken(size, rows):
    model = cswin(dims=(4, 4, 4, 4), depths=(1, 1, 1, 1), heads=(2, 2, 2, 2), splits=(1, 2, 7, None))
    assert model.forward_features(images(*size)).shape == (2, rows, 4)


def test_a_size_that_does_not_divide_is_refused_with_the_remedy():
    model = cswin(dims=(4, 4, 4, 4), depths=(1, 1, 1, 1), heads=(2, 2, 2, 2), splits=(1, 2, 7, None))
    with pytest.raises(ValueError, match="10x10 map does not divide into 10x7 stripes: change the image size"):
        model(images(160, 160))


def test_takes_other_channels_classes_and_drop_path():
    model = timm.create_model("cswin_tiny", **{**SMALL, "in_chans": 1, "num_classes": 0}, drop_path_rate=0.3)
    assert model(images(32, 32)[:, :1]).shape == (2, 8)
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.1, 0.2, 0.3])
    model.reset_classifier(3)
    assert model(images(32, 32)[:, :1]).shape == (2, 3)


def test_convolutions_start_as_pytorch_s_and_linear_layers_from_a_narrow_normal():
    torch.manual_seed(0)
    model = timm.create_model("cswin_tiny", depths=(1, 1, 1, 1))
    assert model.stage4[0].qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not model.stage4[0].qkv.bias.any() and model.merge1.conv.bias.any()
    bound = (3 * 7 * 7) ** -0.5
    weight = model.stage1_conv_embed[0].weight
    assert weight.abs().max() <= bound and weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_maps_of_all_stages_are_given_to_timm():
    features = timm.create_model("cswin_tiny", features_only=True, out_indices=(0, 2), **SMALL)
    assert features.feature_info.channels() == [4, 8] and features.feature_info.reduction() == [4, 16]
    assert [tuple(m.shape) for m in features(images(32, 64))] == [(2, 4, 8, 16), (2, 8, 2, 4)]


def test_intermediates_come_beside_or_without_the_features():
    model, x = cswin(), images(32, 32)
    features, maps = model.forward_intermediates(x, indices=2)
    assert torch.equal(features, model.forward_features(x)) and len(maps) == 2
    assert torch.equal(model.norm(maps[1].flatten(2).mT), features)
    (early,) = model.forward_intermediates(x, indices=[1], stop_early=True, intermediates_only=True)
    assert torch.equal(early, maps[0])


def test_checkpointing_changes_no_gradient_and_recomputes():
    model, x, calls = cswin().train(), images(32, 32), []
    model.stage2[0].register_forward_pre_hook(lambda *_: calls.append(1))
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)
    assert len(calls) == 3
