"""Receptive fields: networks with a known field, RepLKNet's procedure in loops, and invalid inputs."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from scipy.stats import wasserstein_distance
from timm.models.mlp_mixer import MlpMixer
from torch import nn
from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize, ToTensor

import lkd  # noqa: F401
from lkd.data import load
from lkd.erf import area_ratios, at_size, contribution, contribution_map, effective_share, erf_distance, sample_images

pytestmark = pytest.mark.usefixtures("one_thread")

MINI = ("mini_slak", "mini_convnext", "mini_swin", "mini_cswin", "mini_vit", "mini_resnet")
SWIN = dict(img_size=64, embed_dim=8, depths=(1, 2), num_heads=(2, 2), window_size=4, patch_size=4)
VIT = dict(img_size=32, embed_dim=16, depth=2, num_heads=2, patch_size=8)
NETS = {
    **{name: (name, {}, 32) for name in MINI},
    "convnext": ("convnext_atto", dict(depths=(1, 1, 1, 1), dims=(4, 8, 8, 8)), 64),
    "resnet": ("resnet18", {}, 64),
    "swin": ("swin_tiny_patch4_window7_224", SWIN, 64),
    "vit": ("vit_tiny_patch16_224", VIT, 32),
    "registers": ("vit_tiny_patch16_224", dict(VIT, reg_tokens=3), 32),
}


def settled(model, seed=0):
    """Randomise all weights and statistics, in float64 and training mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, 1 if tensor.ndim == 1 else tensor[0].numel() ** -0.5, generator=generator)
    return model.double().train()


def net(key):
    name, arguments, side = NETS[key]
    return settled(timm.create_model(name, num_classes=5, **arguments)), side


def noise(*shape, seed=1):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Maps(nn.Module):
    """A network with the given layers in `forward_features`, and pooling in `forward`."""

    def __init__(self, *layers):
        super().__init__()
        self.layers_ = nn.Sequential(*layers)

    def forward_features(self, x):
        return self.layers_(x)

    def forward(self, x):
        return self.forward_features(x).mean((2, 3))


def convolution(kernel, channels=1):
    """A 'same' convolution with one kernel."""
    kernel = torch.as_tensor(kernel, dtype=torch.float64)
    layer = nn.Conv2d(channels, 1, kernel.shape, padding=tuple(side // 2 for side in kernel.shape), bias=False).double()
    layer.weight.data[:] = kernel
    return layer


def box(map):
    """First and last non-zero row and column."""
    return [(int(lines.min()), int(lines.max())) for lines in np.nonzero(map)]


# Known fields -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_map_of_one_convolution_is_its_kernel_around_the_centre(k):
    kernel = noise(k, k).abs() + 0.1
    map = contribution_map(Maps(convolution(kernel, channels=3)), noise(4, 3, 16, 20).abs())
    expected = np.zeros((16, 20))
    expected[8 - k // 2 : 9 + k // 2, 10 - k // 2 : 11 + k // 2] = 3 * kernel
    assert map.dtype == np.float64 and map.shape == (16, 20)
    np.testing.assert_allclose(map, expected, rtol=1e-15)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_map_of_a_stack_of_convolutions_is_the_binomial_profile(depth):
    kernel = np.outer([1, 2, 1], [1, 2, 1])
    map = contribution_map(Maps(*(convolution(kernel) for _ in range(depth))), torch.ones(2, 1, 24, 24))
    profile = [math.comb(2 * depth, i) for i in range(2 * depth + 1)]
    around = slice(12 - depth, 13 + depth)
    np.testing.assert_allclose(map[around, around], np.outer(profile, profile), rtol=1e-14)
    assert map.sum() == pytest.approx(16**depth)


def test_only_what_raises_the_centre_counts_and_only_where_it_is_above_0():
    """The second of three images has a negative centre; its map is 0."""
    kernel = np.array([[0, 1, 0], [-2, 3, 0], [0, 0, -4]])
    image = torch.zeros(1, 1, 7, 7)
    image[..., 3, 3] = 1
    map = contribution_map(Maps(convolution(kernel)), torch.cat([image, -image, image]))
    np.testing.assert_allclose(map[2:5, 2:5], np.maximum(kernel, 0) * 2 / 3, rtol=1e-15)
    assert map.sum() == pytest.approx(8 / 3)


@pytest.mark.parametrize(("side", "centre"), [(4, 2), (5, 2)])
def test_the_centre_of_a_map_lies_at_half_of_its_side_rounded_down(side, centre):
    map = contribution_map(Maps(nn.AvgPool2d(8)), torch.ones(1, 1, 8 * side, 8 * side))
    assert box(map) == [(8 * centre, 8 * centre + 7)] * 2


def silent(model):
    """Without attention, tokens do not depend on each other."""
    for name, parameter in model.named_parameters():
        if ".attn.proj." in name or (name.startswith("stage") and ".proj." in name):
            parameter.data.zero_()
    return model


@pytest.mark.parametrize(
    ("key", "cell"), [("vit", 8), ("registers", 8), ("mini_vit", 4), ("swin", 8), ("mini_swin", 8)]
)
@pytest.mark.parametrize("size", [(64, 96), (96, 64)])
def test_tokens_lie_row_by_row_after_those_of_no_patch(key, cell, size):
    """Without attention, the centre depends on its own patch only, for square and other images."""
    model = at_size(silent(net(key)[0]), size)
    map = contribution_map(model, noise(8, 3, *size))
    assert box(map) == [(side // cell // 2 * cell, side // cell // 2 * cell + cell - 1) for side in size]


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (30, 46), (22, 30)])
def test_cswin_s_tokens_lie_row_by_row(size):
    """Without attention, three 3x3 convolutions of stride 2 remain."""
    map = contribution_map(silent(net("mini_cswin")[0]), noise(8, 3, *size))
    centres = [8 * (math.ceil(side / 8) // 2) for side in size]
    assert box(map) == [(centre - 7, centre + 7) for centre in centres]


# RepLKNet's procedure -----------------------------------------------------------------------------------------------


def centre_vector(key, model, image):
    """Features (C,) of the centre of the last map before the final norm."""
    model = copy.deepcopy(model).eval()
    if hasattr(model, "norm") and key not in ("mini_slak", "mini_convnext"):
        model.norm = nn.Identity()
    features = model.forward_features(image)[0]
    if key in ("swin", "mini_swin"):
        return features[features.shape[0] // 2, features.shape[1] // 2]
    if key in ("vit", "registers", "mini_vit", "mini_cswin"):
        prefix = {"vit": 1, "registers": 4}.get(key, 0)
        side = math.isqrt(len(features) - prefix)
        assert prefix + side**2 == len(features)
        return features[prefix + side // 2 * side + side // 2]
    return features[:, features.shape[1] // 2, features.shape[2] // 2]


def slow_map(key, model, images):
    """Reference, image by image and pixel by pixel."""
    total = np.zeros(images.shape[2:])
    for image in images:
        image = image[None].clone().requires_grad_()
        sum(value for value in centre_vector(key, model, image) if value > 0).backward()
        for row in range(total.shape[0]):
            for column in range(total.shape[1]):
                total[row, column] += sum(max(g, 0.0) for g in image.grad[0, :, row, column].tolist())
    return total / len(images)


@pytest.mark.parametrize("key", NETS)
def test_the_map_is_replknet_s(key):
    model, side = net(key)
    images = noise(3, 3, side, side)
    map = contribution_map(model, images)
    assert map.any()
    np.testing.assert_allclose(map, slow_map(key, model, images), rtol=1e-9, atol=1e-12 * map.max())


@pytest.mark.slow
@pytest.mark.parametrize("name", MINI)
def test_the_mini_nets_take_128_pixels(name):
    model, images = at_size(settled(timm.create_model(name, in_chans=1)), 128), noise(1, 1, 128, 128)
    map = contribution_map(model, images)
    assert map.shape == (128, 128) and 0 < effective_share(map) < 1
    np.testing.assert_allclose(map, slow_map(name, model, images), rtol=1e-9, atol=1e-12 * map.max())


@pytest.mark.parametrize("key", ["mini_slak", "mini_swin", "vit"])
def test_batches_are_images_one_by_one(key, monkeypatch):
    model, side = net(key)
    images = noise(7, 3, side, side)
    alone = [contribution_map(model, image[None]) for image in images]
    np.testing.assert_allclose(contribution_map(model, images), np.mean(alone, 0), rtol=1e-9, atol=1e-14)
    monkeypatch.setattr(contribution, "_PIXELS_AT_ONCE", 3 * side**2)
    np.testing.assert_allclose(contribution_map(model, images), np.mean(alone, 0), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_maps_that_are_not_finite_are_left_out_of_the_mean(bad):
    model, side = net("mini_swin")
    images = noise(4, 3, side, side)
    expected = contribution_map(model, images[[0, 1, 3]])
    images[2, 0, 0, 0] = bad
    with pytest.warns(UserWarning, match="1 of 4 images give no finite gradient and are left out"):
        np.testing.assert_allclose(contribution_map(model, images), expected, rtol=1e-9)
    with pytest.raises(ValueError, match="none of the 1 images gives a finite gradient"):
        contribution_map(model, images[2:3])


def test_images_that_are_not_normalised_are_warned_of():
    model = Maps(convolution(np.ones((3, 3))))
    with pytest.warns(UserWarning, match="images have values from 255 to 255: normalise them") as told:
        contribution_map(model, torch.full((1, 1, 8, 8), 255.0))
    assert [warning.filename for warning in told] == [__file__]


def test_a_norm_that_is_not_last_stays():
    """As in ConvNeXt's stem, or with layers after the module `norm`."""
    model = Maps(convolution([[2.0]]))
    model.norm = nn.InstanceNorm2d(1)
    inner = model.layers_
    images = noise(2, 1, 8, 8)
    model.forward_features = lambda x: inner(model.norm(x))
    assert (contribution_map(model, images) > 0).sum() > 1
    model.forward_features = lambda x: model.norm(inner(x))
    assert box(contribution_map(model, images.abs())) == [(4, 4), (4, 4)]


def test_the_last_map_of_a_resnet_is_its_last_stage_s_by_name_as_well():
    model, side = net("resnet")
    images = noise(2, 3, side, side)
    np.testing.assert_array_equal(contribution_map(model, images, layer="layer4"), contribution_map(model, images))


def test_a_layer_s_output_is_taken_before_anything_changes_it_in_place():
    """The ReLU after `bn1` of a ResNet is in place; it does not change u, but -ReLU(-x) does."""

    class Negative(nn.Module):
        def forward(self, x):
            return x.neg_().relu_().neg_()

    model, side = net("resnet")
    images = noise(3, 3, side, side)
    expected = contribution_map(model, images, layer="bn1")
    model.act1 = Negative()
    assert expected.any()
    np.testing.assert_array_equal(contribution_map(model, images, layer="bn1"), expected)


@pytest.mark.parametrize(
    ("key", "layer", "cell"), [("vit", "blocks.0", 8), ("swin", "layers.0", 4), ("swin", "patch_embed.proj", 4)]
)
def test_layers_of_transformers_are_read_as_their_last_map_is(key, layer, cell):
    model, side = net(key)
    middle = side // cell // 2 * cell
    assert (
        box(contribution_map(silent(model), noise(8, 3, side, side), layer=layer)) == [(middle, middle + cell - 1)] * 2
    )


def test_any_module_has_maps_by_the_name_of_a_layer_and_the_last_run_of_it_counts():
    kernel = convolution(np.ones((3, 3)))
    model = nn.Sequential(kernel, nn.ReLU(), kernel, nn.Flatten(), nn.Linear(36, 2).double())
    images = torch.ones(1, 1, 6, 6)
    assert box(contribution_map(model, images, layer="0")) == [(1, 5), (1, 5)]
    assert box(contribution_map(model, images, layer="1")) == [(2, 4), (2, 4)]


def test_a_linear_layer_has_its_channels_last():
    class ChannelsLast(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 5)

        def forward(self, x):
            return self.linear(x.permute(0, 2, 3, 1))

    torch.manual_seed(0)
    assert box(contribution_map(ChannelsLast(), torch.randn(4, 3, 8, 12), layer="linear")) == [(4, 4), (6, 6)]


# The model is unchanged ---------------------------------------------------------------------------------------------


def state_of(model):
    modes = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    return modes, hooks, [(p.requires_grad, p.grad) for p in model.parameters()]


@pytest.mark.parametrize("layer", [None, "stages.1"])
@pytest.mark.parametrize("side", [32, 1])
def test_the_model_is_left_as_it_was_even_after_an_error(layer, side):
    model = timm.create_model("mini_slak")
    model.stages[0].eval()
    model.head.requires_grad_(False)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    before, values = state_of(model), copy.deepcopy(model.state_dict())
    if side == 1:
        with pytest.raises(ValueError, match="does not accept images of shape"):
            contribution_map(model, torch.randn(2, 3, side, side), layer=layer)
    else:
        contribution_map(model, torch.randn(2, 3, side, side), layer=layer)
    assert state_of(model) == before
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())


def test_images_are_left_as_they_were_and_brought_to_the_model_s_dtype():
    model, images = Maps(convolution(np.ones((3, 3)))), torch.ones(2, 1, 8, 8, requires_grad=True)
    assert contribution_map(model, images).sum() == 9
    assert images.grad is None and images.dtype == torch.float32
    assert contribution_map(model.bfloat16(), images).sum() == 9


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_there_where_the_caller_has_turned_them_off(context):
    model = Maps(convolution(np.ones((3, 3))))
    with context():
        assert contribution_map(model, torch.ones(2, 1, 8, 8)).sum() == 9


def test_a_bar_changes_nothing():
    model, images = Maps(convolution(np.ones((3, 3)))), torch.ones(2, 1, 8, 8)
    np.testing.assert_array_equal(contribution_map(model, images, progress=True), contribution_map(model, images))


def test_a_net_without_parameters_has_a_map():
    assert contribution_map(Maps(nn.AvgPool2d(3, 1, 1)), torch.ones(1, 1, 9, 9)).sum() == pytest.approx(1)


# Invalid inputs -----------------------------------------------------------------------------------------------------


class Odd(Maps):
    """Features in a given form."""

    def __init__(self, form):
        super().__init__(convolution([[1.0]]))
        self.form = form

    def forward_features(self, x):
        return self.form(self.layers_(x))


ONES = torch.ones(2, 1, 8, 8)
WRONG = {
    "a list": (None, ONES.tolist(), None, TypeError, "images must be a tensor, got a list"),
    "three dimensions": (None, ONES[0], None, ValueError, r"images have shape \(1, 8, 8\)"),
    "no images": (None, ONES[:0], None, ValueError, r"images have shape \(0, 1, 8, 8\)"),
    "integers": (None, ONES.byte(), None, TypeError, r"images are torch.uint8: convert them"),
    "channels": (None, torch.ones(2, 3, 8, 8), None, ValueError, r"does not accept images of shape \(2, 3, 8, 8\)"),
    "no module": (len, ONES, None, TypeError, "model must be an nn.Module, got a builtin"),
    "no features": (nn.Sequential(nn.ReLU()), ONES, None, TypeError, "no forward_features: name the layer .*'0'"),
    "nothing at all": (nn.Flatten(), ONES, None, TypeError, "Flatten has no forward_features"),
    "an unknown layer": (None, ONES, "layers", KeyError, "unknown layer 'layers': did you mean 'layers_'"),
    "a layer not run": (None, ONES, "spare", ValueError, "Maps.forward does not run layer 'spare'"),
    "two maps": (Odd(lambda x: [x, x]), ONES, None, TypeError, "are a list, not a tensor"),
    "a pooled vector": (Odd(lambda x: x.mean((2, 3))), ONES, None, ValueError, r"shape \(2, 1\) for 2 images"),
    "windows": (Odd(lambda x: x.reshape(4, 1, 4, 8)), ONES, None, ValueError, r"shape \(4, 1, 4, 8\) for 2 images"),
    "no grid": (Odd(lambda x: x.flatten(2).mT[:, 1:]), ONES, None, ValueError, "63 tokens, after 0 .* num_prefix"),
    "no square": (Odd(lambda x: x.flatten(2).mT[:, :6]), ONES, None, ValueError, "do not form a grid on images of 8x8"),
    "no token": (Odd(lambda x: x.flatten(2).mT[:, :0]), ONES, None, ValueError, "0 tokens, after 0"),
    "no gradient": (Odd(lambda x: x.detach()), ONES, None, ValueError, "do not depend on the images"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_gives_no_map_is_refused_by_name(case):
    model, images, layer, error, message = WRONG[case]
    if model is None:
        model = Maps(convolution([[1.0]]))
        model.spare = nn.ReLU()
    with pytest.raises(error, match=message):
        contribution_map(model, images, layer=layer)


@pytest.mark.parametrize("name", ["mini_vit", "mini_swin"])
def test_a_size_that_a_transformer_was_not_made_for_is_refused_with_the_remedy(name):
    with pytest.raises(ValueError, match=r"\(1, 3, 64, 64\) .* lkd.erf.at_size"):
        contribution_map(timm.create_model(name), torch.zeros(1, 3, 64, 64))


# Area ratios --------------------------------------------------------------------------------------------------------


def slow_side(values, threshold, log):
    """RepLKNet's loop over `i in range(1, h // 2)`, pixel by pixel, while the square lies within the map."""
    height, width = values.shape
    shown = [[math.log10(value + 1) if log else value for value in row] for row in values.tolist()]
    whole = sum(map(sum, shown))
    for i in range(1, height // 2):
        rows = range(height // 2 - i, height // 2 + i + 1)
        columns = range(width // 2 - i, width // 2 + i + 1)
        if columns[0] < 0 or columns[-1] >= width:
            return None
        if sum(shown[row][column] for row in rows for column in columns) / whole > threshold:
            return 2 * i + 1
    return None


def bump(height, width, scale=1.0, spread=6.0):
    rows, columns = (np.exp(-((np.arange(n) - n // 2) ** 2) / (2 * spread**2)) for n in (height, width))
    return scale * np.outer(rows, columns)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("size", [(32, 32), (33, 33), (20, 34), (34, 20), (33, 20), (5, 4), (33, 31), (31, 33)])
def test_area_ratios_are_replknet_s(size, log):
    thresholds = (1e-9, 0.05, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99, 1 - 1e-9)
    for values in (np.random.default_rng(0).exponential(size=size), bump(*size), bump(*size, 1e4)):
        rows = area_ratios(values, thresholds, log=log)
        assert [row.threshold for row in rows] == list(thresholds)
        assert [row.side for row in rows] == [slow_side(values, threshold, log) for threshold in thresholds]
        for _, side, ratio in rows:
            assert (ratio is None) if side is None else ratio == pytest.approx(side * side / (size[0] * size[1]))


def test_the_thresholds_are_replknet_s_unless_asked():
    assert [row.threshold for row in area_ratios(np.ones((8, 8)))] == [0.2, 0.3, 0.5, 0.99]


def test_a_threshold_is_to_be_exceeded():
    (row,) = area_ratios(np.ones((10, 10)), (0.09,))
    assert row == (0.09, 5, 0.25)


def test_a_flat_map_never_reaches_99_percent():
    *_, half, last = area_ratios(np.ones((64, 64)))
    assert half == (0.5, 47, 47**2 / 64**2) and last == (0.99, None, None)
    assert (
        area_ratios(np.ones((64, 64)), (0.968,))[0].side == 63
        and area_ratios(np.ones((64, 64)), (0.969,))[0].side is None
    )


def test_a_map_too_small_for_a_square_has_none():
    assert area_ratios(np.ones((3, 9)), (0.01,)) == [(0.01, None, None)]


@pytest.mark.parametrize(
    ("size", "side"), [((225, 223), 223), ((224, 223), 223), ((223, 225), 221), ((223, 223), 221), ((224, 224), 223)]
)
def test_the_largest_square_is_replknet_s_last_one_within_the_map(size, side):
    share = side**2 / (size[0] * size[1])
    just_held, just_missed = area_ratios(np.ones(size), (share - 1e-6, share + 1e-6))
    assert (just_held.side, just_missed.side) == (side, None)


def test_the_logarithm_depends_on_the_scale_and_nothing_else_does():
    maps = [bump(64, 64, scale, spread=10) for scale in (1e-6, 1, 1e2, 1e6)]
    assert [area_ratios(map, (0.5,))[0].side for map in maps] == [21, 23, 33, 43]
    assert [area_ratios(map, (0.5,), log=False)[0].side for map in maps] == [21] * 4
    assert [effective_share(map) for map in maps] == pytest.approx([effective_share(maps[0])] * 4, rel=1e-12)
    assert erf_distance(maps[0], maps[3]).radial == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("analysis", [area_ratios, effective_share, lambda map: erf_distance(map, np.ones((4, 4)))])
@pytest.mark.parametrize(
    ("map", "error", "message"),
    [
        (np.ones((2, 4, 4)), ValueError, r"shape \(2, 4, 4\): give one map"),
        (np.ones((0, 4)), ValueError, r"shape \(0, 4\)"),
        (np.full((4, 4), math.nan), ValueError, "values from nan to nan: give finite"),
        (np.full((4, 4), math.inf), ValueError, "give finite values"),
        (np.full((4, 4), -0.1), ValueError, "values from -0.1 to -0.1: .* at least 0"),
        (np.zeros((4, 4)), ValueError, "is 0 everywhere"),
        ("map.npy", TypeError, "must be an array of numbers"),
        (torch.ones(4, 4, requires_grad=True), TypeError, "must be an array of numbers"),
    ],
)
def test_what_is_no_map_has_no_analysis(analysis, map, error, message):
    with pytest.raises(error, match=message):
        analysis(map)


@pytest.mark.parametrize(
    ("threshold", "error"), [(0, ValueError), (1.0, ValueError), (math.nan, ValueError), ("0.5", TypeError)]
)
def test_a_threshold_is_a_share_between_0_and_1(threshold, error):
    with pytest.raises(error, match="threshold must be"):
        area_ratios(np.ones((8, 8)), (0.5, threshold))


# Share and distance -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 8])
def test_the_effective_share_of_a_flat_square_is_its_area(k):
    values = np.zeros((8, 16))
    values[:k, :k] = 0.3
    assert effective_share(values) == pytest.approx(k * k / 128)


def test_the_effective_share_of_a_gaussian_is_that_of_its_entropy():
    assert effective_share(bump(128, 128, spread=6.0)) == pytest.approx(2 * math.pi * math.e * 36 / 128**2, rel=1e-6)


def distances(size):
    return [max(abs(row - size[0] // 2), abs(column - size[1] // 2)) for row, column in np.ndindex(*size)]


@pytest.mark.parametrize("size", [(12, 12), (9, 14), (1, 1)])
def test_the_radial_distance_is_the_earth_mover_s(size):
    first, second = np.random.default_rng(0).exponential(size=(2, *size)) + np.array([[[0.1]], [[3.0]]])
    reach = distances(size)
    expected = wasserstein_distance(reach, reach, first.ravel(), second.ravel()) / max(max(reach), 1)
    assert erf_distance(first, second).radial == pytest.approx(expected, abs=1e-12)
    assert erf_distance(second, first).radial == pytest.approx(expected, abs=1e-12)


def test_the_radial_distance_goes_from_0_to_1():
    centre, border = np.zeros((8, 8)), np.zeros((8, 8))
    centre[4, 4], border[0] = 1, 1
    assert erf_distance(centre, 7 * centre).radial == 0 and erf_distance(centre, border).radial == 1


def test_area_ratios_are_compared_threshold_by_threshold():
    narrow, wide = bump(64, 64, spread=3), bump(64, 64, spread=9)
    for log in (True, False):
        ratios = erf_distance(narrow, wide, (0.2, 0.5), log=log).ratios
        pairs = zip(area_ratios(narrow, (0.2, 0.5), log=log), area_ratios(wide, (0.2, 0.5), log=log), strict=True)
        assert ratios == {a.threshold: a.ratio - b.ratio for a, b in pairs} and max(ratios.values()) < 0


def test_a_ratio_that_one_map_has_not_is_compared_with_none():
    for pair in ((bump(64, 64), np.ones((64, 64))), (np.ones((64, 64)), bump(64, 64)), (np.ones((64, 64)),) * 2):
        ratios = erf_distance(*pair).ratios
        assert ratios[0.99] is None and ratios[0.5] is not None


def test_maps_of_two_sizes_have_no_distance():
    with pytest.raises(ValueError, match=r"first has shape \(8, 8\), second \(8, 9\)"):
        erf_distance(np.ones((8, 8)), np.ones((8, 9)))


# Other sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["mini_slak", "mini_cswin", "mini_resnet", "convnext"])
def test_what_takes_any_size_is_copied_as_it_is(key):
    model, _ = net(key)
    resized, images = at_size(model, 64), noise(1, 3, 64, 64)
    assert resized is not model and state_of(resized) == state_of(model)
    torch.testing.assert_close(resized.eval()(images), model.eval()(images), rtol=0, atol=0)


@pytest.mark.parametrize("size", [96, (96, 64), (80, 72), 32])
def test_swin_at_another_size_is_the_same_swin_made_for_it(size):
    model, _ = net("swin")
    made = timm.create_model(NETS["swin"][0], num_classes=5, **{**SWIN, "img_size": size}).double().eval()
    made.load_state_dict(model.state_dict())
    height, width = size if isinstance(size, tuple) else (size, size)
    images = noise(2, 3, height, width)
    with torch.no_grad():
        torch.testing.assert_close(at_size(model, size).eval()(images), made(images))
    assert model.patch_embed.img_size == (64, 64)


@pytest.mark.parametrize("name", ["swinv2_cr_tiny_224", "swinv2_tiny_window8_256"])
def test_the_windows_of_other_swins_stay_as_well(name):
    form = dict(img_size=64, embed_dim=8, depths=(1, 1), num_heads=(2, 2), window_size=4)
    resized = at_size(timm.create_model(name, **form), 128)
    sizes = {module.window_size for module in resized.modules() if hasattr(module, "shift_size")}
    assert sizes == {(4, 4)}


def test_the_position_embedding_of_a_vit_is_resampled_and_its_class_token_kept():
    model, _ = net("vit")
    model.pos_embed.data[:, 1:] = torch.arange(16.0).reshape(1, 4, 4, 1).mean((2, 3)).repeat_interleave(4, 1)[..., None]
    resized = at_size(model, 64)
    assert resized.pos_embed.shape == (1, 65, 16) and model.pos_embed.shape == (1, 17, 16)
    torch.testing.assert_close(resized.pos_embed[:, 0], model.pos_embed[:, 0])
    grid = resized.pos_embed[0, 1:, 0].reshape(8, 8)
    torch.testing.assert_close(grid, grid[:, :1].expand(8, 8), rtol=1e-5, atol=0)
    assert (grid[:, 0].diff() > 0).all()


def test_a_size_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"size is 36, which CSWin .* 9x9 map does not divide into 9x2 stripes"):
        at_size(timm.create_model("mini_cswin"), 36)
    fixed = MlpMixer(img_size=64, num_blocks=1, embed_dim=16)
    with pytest.raises(ValueError, match=r"size is \(32, 64\), which MlpMixer does not support"):
        at_size(fixed, (32, 64))


@pytest.mark.parametrize(
    ("model", "size", "error", "message"),
    [
        (len, 32, TypeError, "model must be an nn.Module"),
        (nn.Flatten(), 32, TypeError, "Flatten has no convolution"),
        (nn.Conv2d(1, 1, 1), 0, ValueError, "size must be at least 1, got 0"),
        (nn.Conv2d(1, 1, 1), (8, -8), ValueError, "size must be at least 1, got -8"),
        (nn.Conv2d(1, 1, 1), 8.0, TypeError, "size must be a whole number, got 8.0"),
        (nn.Conv2d(1, 1, 1), (8, 8, 8), TypeError, r"size must be a whole number, got \(8, 8, 8\)"),
    ],
)
def test_what_has_no_other_size_is_refused(model, size, error, message):
    with pytest.raises(error, match=message):
        at_size(model, size)


# Images -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Ten images of various sizes for each of three classes."""
    root, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("ant", "bee", "cat"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(10):
                height, width = random.integers(20, 60, 2)
                pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return root


def resized_by_torchvision(path, size):
    steps = (
        Resize((size, size), InterpolationMode.BICUBIC),
        ToTensor(),
        Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    )
    return Compose(steps)(Image.open(path))


def test_the_first_pictures_of_a_folder_are_replknet_s(pictures):
    expected = [resized_by_torchvision(path, 48) for path in sorted((pictures / "val").rglob("*.png"))[:15]]
    torch.testing.assert_close(sample_images(pictures / "val", 48, 15, order="first"), torch.stack(expected))


@pytest.mark.parametrize("of", [Path, str])
def test_pictures_are_drawn_with_the_classes_in_proportion_and_always_the_same_ones(pictures, of):
    folder = of(pictures / "val")
    given = sample_images(folder, 16, 6)
    torch.testing.assert_close(given, sample_images(folder, 16, 6), rtol=0, atol=0)
    assert not torch.equal(given, sample_images(folder, 16, 6, seed=1))
    known = {path: resized_by_torchvision(path, 16) for path in (pictures / "val").rglob("*.png")}
    names = [min(known, key=lambda path: (known[path] - image).abs().sum()).parent.name for image in given]
    assert sorted(names) == ["ant", "ant", "bee", "bee", "cat", "cat"]


def test_of_a_data_set_with_two_splits_test_is_the_one_that_is_not_held_out_of_train(pictures):
    """RepLKNet's images are the first of the folder val, or of the split test."""
    data = load(f"folder:{pictures}")
    first = sample_images(pictures / "val", 16, 7, order="first")
    torch.testing.assert_close(sample_images(data, 16, 7, split="test", order="first"), first, rtol=0, atol=0)


def test_damaged_pictures_are_named_or_skipped_as_the_data_set_says(tmp_path):
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    (tmp_path / "val" / "ant" / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"0\.png cannot be decoded"):
        sample_images(tmp_path / "val", 8, 4)
    assert sample_images(load(f"folder:{tmp_path}", damaged="skip"), 8, 4, split="test").shape == (4, 3, 8, 8)


def test_images_in_memory_are_resized_before_they_are_normalised():
    data = load("digits")
    given = sample_images(data, 128, 20, split="test")
    assert given.shape == (20, 1, 128, 128) and given.dtype == torch.float32
    low, high = (data.normalise(torch.tensor([[[[value]]]], dtype=torch.uint8)).item() for value in (0, 255))
    assert low - 1e-6 <= given.min() < given.max() <= high + 1e-6
    torch.testing.assert_close(
        sample_images(data, 32, 5, order="first"), data.normalise(data.val.images[:5]), rtol=0, atol=0
    )


def test_a_tensor_is_only_resized():
    images = torch.randn(6, 2, 8, 12)
    given = sample_images(images, 8, 6)
    assert given.shape == (6, 2, 8, 8)
    torch.testing.assert_close(sample_images(images[..., :8], 8, 6, order="first"), images[..., :8])


@pytest.mark.parametrize(
    ("data", "arguments", "error", "message"),
    [
        (torch.zeros(4, 1, 8, 8), dict(count=5), ValueError, "count is 5, but there are 4 images"),
        (torch.zeros(4, 1, 8, 8), dict(count=0), ValueError, "count must be at least 1"),
        (torch.zeros(4, 1, 8, 8), dict(size=8.0), TypeError, "size must be a whole number"),
        (torch.zeros(4, 1, 8, 8), dict(order="last"), KeyError, "unknown order 'last'"),
        (torch.zeros(4, 1, 8, 8), dict(split="vall"), KeyError, "unknown split 'vall': did you mean 'val'"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), {}, TypeError, "data is a tensor of torch.uint8: give"),
        (torch.zeros(4, 8, 8), {}, ValueError, r"shape \(4, 8, 8\)"),
        (torch.zeros(()), {}, ValueError, r"shape \(\)"),
        ("digits", {}, FileNotFoundError, "no folder digits: for a data set by name, pass lkd.data.load"),
        (7, {}, TypeError, "data must be a data set, a folder or a tensor, got a int"),
    ],
)
def test_what_gives_no_images_is_refused(data, arguments, error, message):
    with pytest.raises(error, match=message):
        sample_images(data, **{"size": 8, "count": 2, **arguments})


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no image file"):
        sample_images(tmp_path, 8)


# Unrelated attributes with the names of timm's ----------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["cls", True, None, 1.0])
def test_a_num_prefix_tokens_that_is_not_timm_s_is_refused(prefix):
    model = timm.create_model("mini_vit")
    model.num_prefix_tokens = prefix
    with pytest.raises(TypeError, match="the num_prefix_tokens of VisionTransformer must be the number"):
        contribution_map(model, torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("method", [3, lambda side: None, lambda img_size, window_size: None])
def test_a_set_input_size_that_is_not_timm_s_is_refused(method):
    model = timm.create_model("mini_resnet")
    vars(model)["set_input_size"], vars(model)["layers"] = method, 3
    with pytest.raises(ValueError, match=r"which .* does not support"):
        at_size(model, 64)
