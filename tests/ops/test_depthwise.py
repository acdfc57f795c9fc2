"""The large-kernel depthwise convolution equals `F.conv2d(groups=C)` except in speed."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from lkd.ops import DepthwiseConv2d, depthwise_branches, depthwise_conv2d, fast_depthwise

SHAPES = [
    ((51, 5), (16, 16)),
    ((5, 51), (16, 16)),
    ((5, 51), (9, 60)),
    ((15, 5), (16, 12)),
    ((5, 15), (12, 16)),
    ((5, 5), (3, 3)),
    ((5, 5), (8, 13)),
    ((7, 7), (4, 4)),
    ((3, 3), (1, 6)),
    ((1, 1), (5, 7)),
    ((1, 9), (6, 1)),
    ((31, 31), (20, 20)),
    ((15, 17), (9, 24)),
    ((13, 15), (24, 20)),
]
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12, torch.bfloat16: 4e-2}


def normal(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def reference(input, weight, bias=None):
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    return F.conv2d(input, weight, bias, padding=padding, groups=input.shape[1])


def value_and_gradients(convolution, *inputs):
    """Output and gradients of all inputs, for an output gradient of distinct values."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    output = convolution(*leaves)
    direction = normal(*output.shape, dtype=output.dtype, seed=9)
    return output, *torch.autograd.grad(output, leaves, direction)


def slow_convolution(input, weight):
    """Reference: the defining sum, pixel by pixel."""
    batch, channels, height, width = input.shape
    tall, broad = weight.shape[2:]
    output = torch.zeros_like(input)
    for b, c, y, x in torch.cartesian_prod(*map(torch.arange, (batch, channels, height, width))).tolist():
        for i in range(tall):
            for j in range(broad):
                row, column = y + i - tall // 2, x + j - broad // 2
                if 0 <= row < height and 0 <= column < width:
                    output[b, c, y, x] += input[b, c, row, column] * weight[c, 0, i, j]
    return output


@pytest.mark.parametrize("kernel", [(7, 3), (3, 7)])
def test_is_the_sum_over_the_window(kernel):
    input, weight = normal(2, 2, 4, 5), normal(2, 1, *kernel, seed=1)
    torch.testing.assert_close(depthwise_conv2d(input, weight), slow_convolution(input, weight))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("kernel", "size"), SHAPES)
def test_values_and_gradients_are_those_of_conv2d(kernel, size, dtype):
    inputs = normal(3, 4, *size, dtype=dtype), normal(4, 1, *kernel, dtype=dtype, seed=1), normal(4, dtype=dtype)
    exact = value_and_gradients(reference, *(tensor.double() for tensor in inputs))
    for actual, expected in zip(value_and_gradients(depthwise_conv2d, *inputs), exact, strict=True):
        assert actual.dtype == dtype and actual.shape == expected.shape
        assert (actual.double() - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()


LAYOUTS = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "a slice": lambda x: torch.stack([x, -x], -1)[..., 0],
    "transposed": lambda x: x.mT.contiguous().mT,
    "expanded": lambda x: x[:1].expand_as(x),
}


@pytest.mark.parametrize("kernel", [(15, 5), (5, 15)])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_memory_layout_does_not_matter(layout, kernel):
    inputs = layout(normal(2, 3, 8, 9)), layout(normal(3, 1, *kernel, seed=1))
    assert not inputs[0].is_contiguous()
    plain = value_and_gradients(depthwise_conv2d, *(tensor.contiguous() for tensor in inputs))
    for actual, expected in zip(value_and_gradients(depthwise_conv2d, *inputs), plain, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("kernel", [(5, 3), (3, 5)])
def test_first_and_second_derivatives_are_right(kernel):
    inputs = [x.requires_grad_() for x in (normal(2, 2, 3, 4), normal(2, 1, *kernel, seed=1), normal(2, seed=2))]
    assert gradcheck(depthwise_conv2d, inputs)
    assert gradgradcheck(depthwise_conv2d, inputs)


@pytest.mark.parametrize("kernel", [(5, 3), (3, 5)])
def test_a_gradient_penalty_reaches_the_weight(kernel):
    penalties = []
    for convolution in (depthwise_conv2d, reference):
        input, weight = (x.requires_grad_() for x in (normal(2, 2, 6, 6), normal(2, 1, *kernel, seed=1)))
        output = convolution(input, weight)
        (slope,) = torch.autograd.grad(output.sum(), input, create_graph=True)
        penalties.append(torch.autograd.grad(output.sum() + slope.square().sum(), weight)[0])
    torch.testing.assert_close(*penalties)


@pytest.mark.parametrize("frozen", ["input", "weight", "both"])
def test_what_is_frozen_gets_no_gradient_and_costs_none(frozen):
    input, weight = normal(2, 3, 6, 6), normal(3, 1, 5, 3, seed=1)
    input.requires_grad_(frozen == "weight")
    weight.requires_grad_(frozen == "input")
    output = depthwise_conv2d(input, weight)
    assert output.requires_grad == (frozen != "both")
    if frozen != "both":
        with torch.profiler.profile() as profile:
            output.sum().backward()
        assert [x.grad is not None for x in (input, weight)] == [frozen == "weight", frozen == "input"]
        assert sum(event.key == "aten::conv2d" and event.count for event in profile.key_averages()) == 1


def test_no_graph_under_no_grad():
    weight = normal(3, 1, 5, 5).requires_grad_()
    with torch.no_grad():
        assert not depthwise_conv2d(normal(2, 3, 6, 6), weight, normal(3).requires_grad_()).requires_grad


@pytest.mark.parametrize("bias", [None, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_autocast_computes_what_conv2d_does(dtype, bias):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    inputs = [normal(2, 3, 6, 6, dtype=dtype), normal(3, 1, 5, 3, dtype=wide)] + ([normal(3, dtype=wide)] * bool(bias))
    with torch.autocast("cpu", torch.bfloat16):
        expected = value_and_gradients(reference, *inputs)
        actual = value_and_gradients(depthwise_conv2d, *inputs)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2 * theirs.abs().max().item())


def test_an_empty_batch_is_as_for_conv2d():
    output, *gradients = value_and_gradients(depthwise_conv2d, normal(0, 3, 6, 6), normal(3, 1, 5, 3))
    assert output.shape == (0, 3, 6, 6) and not gradients[1].any()


def test_the_output_has_the_memory_format_of_the_input():
    weight = normal(3, 1, 5, 15)
    for layout in (torch.contiguous_format, torch.channels_last):
        output = depthwise_conv2d(normal(2, 3, 8, 9).contiguous(memory_format=layout), weight)
        assert output.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 15)])
def test_is_an_operator_as_pytorch_asks_for(kernel, layout):
    input = normal(2, 3, 8, 9, dtype=torch.float32).contiguous(memory_format=layout)
    weight = normal(3, 1, *kernel, dtype=torch.float32)
    opcheck(torch.ops.lkd.depthwise_conv2d, (input, weight), test_utils=("test_schema", "test_faketensor"))


def test_counts_the_operations_of_the_whole_kernel():
    counts = []
    for convolution in (depthwise_conv2d, reference):
        with FlopCounterMode(display=False) as counter:
            convolution(normal(2, 3, 8, 8), normal(3, 1, 51, 5))
        counts.append(counter.get_total_flops())
    assert counts == [2 * 2 * 3 * 8 * 8 * 51 * 5] * 2


class Convolutions(nn.Module):
    """Depthwise convolutions, and others: strided, dilated, with even kernel, other padding, full."""

    def __init__(self):
        super().__init__()
        self.depthwise = nn.Sequential(
            nn.Conv2d(4, 4, (7, 5), padding=(3, 2), groups=4), nn.Conv2d(4, 4, 5, padding="same", groups=4, bias=False)
        )
        self.others = nn.Sequential(
            nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4),
            nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
            nn.Conv2d(4, 4, 2, padding=1, groups=4),
            nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="circular"),
            nn.Conv2d(4, 4, 3, padding=0, groups=4),
            nn.Conv2d(4, 8, 3, padding=1, groups=4),
            nn.Conv2d(8, 4, 3, padding=1),
        )

    def forward(self, x):
        return self.others(self.depthwise(x))


@pytest.mark.parametrize("make", [Convolutions, lambda: timm.create_model("convnext_atto", depths=(1, 1, 1, 1))])
def test_a_model_with_fast_depthwise_convolutions_is_the_same_model(make):
    torch.manual_seed(0)
    model, channels = make().double(), 4 if make is Convolutions else 3
    images = normal(2, channels, 32, 32)
    parameters, state = list(model.parameters()), {key: value.clone() for key, value in model.state_dict().items()}
    before = model(images)
    gradients = torch.autograd.grad(before.square().sum(), parameters)
    assert fast_depthwise(model) is model
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    torch.testing.assert_close(dict(model.state_dict()), state, rtol=0, atol=0)
    after = model(images)
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(torch.autograd.grad(after.square().sum(), parameters), gradients)


def test_only_depthwise_convolutions_of_stride_1_and_same_padding_are_changed():
    model = fast_depthwise(Convolutions())
    assert all(isinstance(conv, DepthwiseConv2d) for conv in model.depthwise)
    assert not any(isinstance(conv, DepthwiseConv2d) for conv in model.others)


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def depthwise(kind=nn.Conv2d, **kwargs):
    return kind(4, 4, 3, padding=1, groups=4, **{"dtype": torch.float64, **kwargs})


def with_method(name):
    conv = depthwise()
    setattr(conv, name, lambda x, *_: 3 * x)
    return conv


def with_larger_kernel():
    conv = depthwise()
    conv.weight = nn.Parameter(normal(4, 1, 5, 5))
    return conv


ODD = {
    "a subclass": lambda: depthwise(Doubled),
    "a forward of its own": lambda: with_method("forward"),
    "a _conv_forward of its own": lambda: with_method("_conv_forward"),
    "a kernel of another size": with_larger_kernel,
    "reflected borders": lambda: depthwise(padding_mode="reflect"),
    "complex": lambda: depthwise(dtype=torch.complex128),
    "a parametrisation": lambda: nn.utils.parametrizations.weight_norm(depthwise()),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_a_convolution_that_is_not_plain_stays_as_it_is(make):
    conv = make()
    x = normal(2, 4, 8, 8).to(conv.weight.dtype)
    before = conv(x)
    (after,) = fast_depthwise(nn.Sequential(conv))
    assert not isinstance(after, DepthwiseConv2d) and torch.equal(after(x), before)


@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_of_a_convolution_are_run(hook):
    conv, x = depthwise(), normal(2, 4, 8, 8)
    getattr(conv, hook)(lambda module, inputs, *output: 3 * (output or inputs)[0])
    before = conv(x)
    torch.testing.assert_close(fast_depthwise(nn.Sequential(conv))(x), before)


def test_an_image_without_a_batch_is_convolved():
    conv, x = depthwise(), normal(4, 8, 8)
    before = conv(x)
    torch.testing.assert_close(fast_depthwise(nn.Sequential(conv))(x), before)


@pytest.mark.slow
def test_compiles_without_a_break_with_its_gradient():
    inputs = normal(2, 3, 6, 6), normal(3, 1, 3, 5, seed=1), normal(3)
    compiled = torch.compile(depthwise_conv2d, backend="aot_eager", fullgraph=True)
    plain = value_and_gradients(depthwise_conv2d, *inputs)
    for actual, expected in zip(value_and_gradients(compiled, *inputs), plain, strict=True):
        torch.testing.assert_close(actual, expected)


INPUT, WEIGHT, BIAS = torch.zeros(2, 3, 8, 8), torch.zeros(3, 1, 5, 3), torch.zeros(3)
WRONG = {
    "no batch": ((INPUT[0], WEIGHT), ValueError, r"input.*\(B, C, H, W\).*\(3, 8, 8\)"),
    "integers": ((INPUT.long(), WEIGHT.long()), TypeError, "input.*torch.int64"),
    "even height": ((INPUT, torch.zeros(3, 1, 4, 3)), ValueError, r"weight.*odd.*\(3, 1, 4, 3\)"),
    "even width": ((INPUT, torch.zeros(3, 1, 3, 4)), ValueError, r"weight.*odd.*\(3, 1, 3, 4\)"),
    "side of 0": ((INPUT, torch.zeros(3, 1, 3, 0)), ValueError, r"weight.*\(3, 1, 3, 0\)"),
    "other channels": ((INPUT, torch.zeros(6, 1, 3, 3)), ValueError, r"weight.*\(3, 1, odd, odd\).*\(6, 1, 3, 3\)"),
    "not depthwise": ((INPUT, torch.zeros(3, 3, 3, 3)), ValueError, r"weight.*\(3, 3, 3, 3\)"),
    "flat weight": ((INPUT, torch.zeros(3, 5, 3)), ValueError, r"weight.*\(3, 5, 3\)"),
    "broadcast bias": ((INPUT, WEIGHT, torch.zeros(1)), ValueError, r"bias.*\(3,\).*\(1,\)"),
    "weight's dtype": ((INPUT, WEIGHT.double()), TypeError, "weight.*torch.float32.*torch.float64"),
    "bias's dtype": ((INPUT, WEIGHT, BIAS.half()), TypeError, "bias.*torch.float32.*torch.float16"),
}


@pytest.mark.parametrize(("inputs", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_inputs_are_refused_by_name(inputs, error, message):
    with pytest.raises(error, match=message):
        depthwise_conv2d(*inputs)


def test_branches_have_the_values_and_derivatives_of_separate_convolutions():
    input, weights = normal(2, 3, 17, 15), [normal(3, 1, *k, seed=i) for i, k in enumerate([(15, 3), (3, 15), (3, 3)])]
    together = value_and_gradients(lambda x, *ws: torch.cat(depthwise_branches(x, ws)), input, *weights)
    apart = value_and_gradients(lambda x, *ws: torch.cat([reference(x, w) for w in ws]), input, *weights)
    for actual, expected in zip(together, apart, strict=True):
        torch.testing.assert_close(actual, expected)


def test_branches_have_a_second_derivative():
    inputs = [normal(1, 2, 4, 5), normal(2, 1, 5, 3, seed=1), normal(2, 1, 3, 5, seed=2)]
    leaves = [tensor.requires_grad_() for tensor in inputs]
    assert gradgradcheck(lambda x, *ws: sum(depthwise_branches(x, ws)), leaves)


def test_a_branch_without_gradient_gets_none():
    x, fixed, trained = normal(1, 2, 4, 5), normal(2, 1, 5, 3), normal(2, 1, 3, 5).requires_grad_()
    sum(depthwise_branches(x, [fixed, trained])).sum().backward()
    assert fixed.grad is None and trained.grad is not None


def test_a_wrong_branch_is_refused():
    with pytest.raises(ValueError, match=r"weight must be \(2, 1, odd, odd\)"):
        depthwise_branches(normal(1, 2, 4, 5), [normal(2, 1, 3, 3), normal(2, 1, 3, 4)])
