"""SLaK: parts and the whole network against reference implementations, and the interface of a timm model."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from plain_slak import plain_slak
from timm.layers import DropPath
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lkd.models import slak
from lkd.models.slak import Block, LargeKernel, SLaK

SMALL = dict(dims=(4, 8, 8, 8), depths=(1, 2, 1, 1), kernel_sizes=(21, 13, 9, 7), width_factor=1.0, num_classes=5)
WHOLE = {**SMALL, "kernel_sizes": (7, 7, 5, 3)}
forms = pytest.mark.parametrize(("name", "form"), [("slak_tiny", SMALL), ("convnext_bn_tiny", WHOLE)])


def network(name, **kwargs):
    return settled(timm.create_model(name, **kwargs))


def settled(module):
    """Convert to float64 with random weights and statistics, in eval mode."""
    torch.manual_seed(0)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.double().normal_()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_var.uniform_(0.5, 2)
    return module.eval()


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def conv_then_norm(state, name, x):
    """A depthwise convolution with 'same' padding, then batch norm by its formula."""
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


# The whole ----------------------------------------------------------------------------------------------------------


@forms
@pytest.mark.parametrize("size", [(64, 64), (32, 96), (41, 77)])
def test_the_network_is_the_plain_one(name, form, size):
    model, x = network(name, **form), normal(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain_slak(model.state_dict(), x))


@forms
def test_a_training_step_is_that_of_the_plain_network(name, form):
    model, x = network(name, **form).train(), normal(3, 3, 64, 64)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    for key, _ in model.named_parameters():
        weights[key].requires_grad_()
    model(x).square().sum().backward()
    plain_slak(weights, x, training=True).square().sum().backward()
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[key].grad, rtol=1e-6, atol=1e-9 * parameter.grad.abs().max())
    for key, buffer in model.named_buffers():
        if "running" in key:
            torch.testing.assert_close(buffer, weights[key])


def test_an_mlp_in_parts_of_a_batch_is_the_same(monkeypatch):
    block, x = settled(Block(3, 7, None, 0.0, 0.1)), normal(5, 3, 4, 5)
    at_once, calls = block(x), []
    block.pwconv1.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    monkeypatch.setattr(slak, "_HIDDEN_BYTES", 2 * 4 * x[0].numel() * 8)
    torch.testing.assert_close(block(x), at_once)
    assert calls == [2, 2, 1]


@pytest.mark.parametrize("width", [7, 8, 12])
def test_an_mlp_of_aligned_widths_is_the_same(width):
    block, x = settled(Block(width, 7, None, 0.0, 0.1)), normal(2, 4, 5, width).requires_grad_()
    plain, aligned = block.mlp(x), block.aligned_mlp(x)
    torch.testing.assert_close(aligned, plain)
    direction, parameters = torch.randn_like(plain), dict(block.named_parameters())
    used = [x, *(value for name, value in parameters.items() if not name.startswith("large_kernel"))]
    for ours, theirs in zip(*(torch.autograd.grad(y, used, direction) for y in (aligned, plain)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("plain", "inner"), [(True, 32), (False, 28)])
def test_on_a_gpu_in_bfloat16_widths_are_aligned_unless_a_layer_is_changed(plain, inner, monkeypatch):
    widths, linear = [], F.linear
    monkeypatch.setattr(slak, "_are_plain", lambda *layers: plain)
    monkeypatch.setattr(F, "linear", lambda x, w, b: widths.append(len(w)) or linear(x, w, b))
    with FakeTensorMode(), torch.device("cuda"):
        block = Block(7, 7, None, 0.0, 0.1)
        for parameter in block.parameters():
            parameter.data = parameter.to(torch.bfloat16)
        block.mlp(torch.empty(2, 4, 4, 7, dtype=torch.bfloat16))
    assert widths == [inner, inner // 4]


def replaced(layer):
    layer.forward = lambda x: 2 * x


def subclassed(layer):
    layer.weight = nn.Parameter(layer.weight.data.as_subclass(type("Quantised", (torch.Tensor,), {})))


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.register_forward_hook(lambda *_: None),
        lambda layer: layer.register_full_backward_pre_hook(lambda *_: None),
        lambda layer: layer.register_parameter("bias", None),
        lambda layer: nn.utils.parametrizations.weight_norm(layer),
        replaced,
        subclassed,
    ],
)
def test_a_layer_is_plain_if_nothing_but_its_weights_matters(change):
    layer, other = nn.Linear(3, 4), nn.Linear(4, 3)
    assert slak._are_plain(layer, other)
    change(layer)
    assert not slak._are_plain(layer, other)


def test_hooks_on_all_modules_are_kept():
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert not slak._are_plain(nn.Linear(3, 4))
    handle.remove()
    assert slak._are_plain(nn.Linear(3, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sum_of_a_block_keeps_the_precision_of_its_weights(dtype, monkeypatch):
    block, x = settled(Block(3, 7, None, 0.0, 0.1)).float(), normal(2, 3, 4, 5).to(dtype)
    added = normal(2, 4, 5, 3).to(torch.bfloat16)
    monkeypatch.setattr(block.large_kernel, "forward", lambda x: x)
    monkeypatch.setattr(block, "mlp", lambda y: added)
    expected = x.float() + added.permute(0, 3, 1, 2).float()
    assert torch.equal(block(x), expected) and block(x).dtype == torch.float32


def test_a_padded_map_does_not_reach_the_next_block(monkeypatch):
    block = settled(Block(3, 7, None, 0.0, 0.1)).to(torch.bfloat16)
    x = normal(2, 3, 4, 5).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(block, "mlp", lambda y: F.pad(y, (0, 5))[..., :3])
    assert block(x).is_contiguous(memory_format=torch.channels_last)


def test_an_empty_batch_has_no_logits():
    model = network("slak_tiny", **SMALL)
    assert model(normal(0, 3, 64, 64)).shape == (0, 5)


def test_maps_stay_channels_last_on_their_way():
    model = network("slak_tiny", **SMALL)
    for features in model.forward_intermediates(normal(2, 3, 64, 96), intermediates_only=True):
        assert features.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("name", "parameters", "widths"),
    [
        ("slak_tiny", 50_703_838, [124, 249, 499, 998]),
        ("slak_small", 91_131_820, [124, 249, 499, 998]),
        ("slak_base", 157_950_792, [166, 332, 665, 1331]),
        ("convnext_bn_tiny", 28_595_752, [96, 192, 384, 768]),
        ("convnext_bn_small", 50_237_224, [96, 192, 384, 768]),
    ],
)
def test_the_papers_nets_have_their_parameters(name, parameters, widths):
    with torch.device("meta"):
        model = timm.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert [info["num_chs"] for info in model.feature_info] == widths
    assert [info["reduction"] for info in model.feature_info] == [4, 8, 16, 32]


@pytest.mark.parametrize(("kernels", "parameters"), [((31, 29, 27, 13), 49_581_838), ((61, 59, 57, 13), 51_264_838)])
def test_other_kernel_sizes_can_be_given(kernels, parameters):
    with torch.device("meta"):
        model = timm.create_model("slak_tiny", kernel_sizes=kernels, small_kernel=5)
    assert sum(p.numel() for p in model.parameters()) == parameters


# As a timm model ----------------------------------------------------------------------------------------------------


@forms
def test_features_only_gives_the_map_of_each_stage(name, form):
    features = timm.create_model(name, features_only=True, out_indices=(1, 3), in_chans=1, **form)
    assert features.feature_info.channels() == [8, 8] and features.feature_info.reduction() == [8, 32]
    assert [tuple(m.shape) for m in features(torch.zeros(1, 1, 64, 32))] == [(1, 8, 8, 4), (1, 8, 2, 1)]


def test_intermediates_come_beside_or_without_the_features():
    model, x = network("slak_tiny", **SMALL), normal(1, 3, 64, 64)
    features, maps = model.forward_intermediates(x, indices=[0, 3])
    assert torch.equal(features, model.forward_features(x)) and torch.equal(features, maps[1])
    later = []
    model.stages[1].register_forward_hook(lambda *_: later.append(1))
    (first,) = model.forward_intermediates(x, indices=[0], intermediates_only=True)
    assert torch.equal(first, maps[0]) and not later


def test_a_form_of_intermediates_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="output_fmt must be 'NCHW', got 'NLC'"):
        network("slak_tiny", **SMALL).forward_intermediates(normal(1, 3, 64, 64), output_fmt="NLC")


def test_checkpointing_changes_no_gradient_and_recomputes():
    x, gradients, calls = normal(2, 3, 64, 64), [], []
    for enable in (False, True):
        model = network("slak_tiny", **SMALL).train()
        model.stages[1][0].register_forward_pre_hook(lambda *_: calls.append(1))
        model.set_grad_checkpointing(enable)
        model(x).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)
    assert len(calls) == 3


def test_takes_other_channels_classes_and_drop_path():
    model = timm.create_model("slak_tiny", **{**SMALL, "in_chans": 1, "num_classes": 0}, drop_path_rate=0.4)
    assert model(torch.zeros(2, 1, 64, 64)).shape == (2, 8)
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])
    model.reset_classifier(3)
    assert model(torch.zeros(2, 1, 64, 64)).shape == (2, 3)


def test_its_preprocessing_is_that_of_the_release():
    with torch.device("meta"):
        data = timm.data.resolve_model_data_config(timm.create_model("slak_tiny"))
    assert (data["input_size"], data["crop_pct"], data["interpolation"]) == ((3, 224, 224), 0.875, "bicubic")
    assert data["mean"] == timm.data.IMAGENET_DEFAULT_MEAN and data["std"] == timm.data.IMAGENET_DEFAULT_STD
