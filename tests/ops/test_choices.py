"""The choice between PyTorch's own convolution and a Triton kernel; on a CPU, with forms and timers made up."""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lkd.ops import cuda, depthwise_branches, depthwise_choices, depthwise_conv2d
from lkd.ops.cuda import NATIVE, Case, fastest

CASE = Case("convolve", torch.device("cpu"), torch.float32, torch.contiguous_format, (2, 3, 8, 8), (5, 3))
INPUT, WEIGHT, GRAD = torch.randn(3, 3, 8, 8), torch.randn(3, 1, 5, 3), torch.randn(3, 3, 8, 8)
SMALL, FULL = (INPUT[:1], WEIGHT), (INPUT, WEIGHT)

OPERATIONS = ["convolve", "input_gradient", "weight_gradient"]


def native(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(input, weight, bias, padding=(2, 1), groups=3)


def equal(*arguments: Any) -> Tensor:
    """A form with the right values."""
    return native(*arguments).clone()


def wrong(*arguments: Any) -> Tensor:
    return native(*arguments) * 1.01


def undefined(*arguments: Any) -> Tensor:
    return native(*arguments) * float("nan")


def another_shape(*arguments: Any) -> Tensor:
    return native(*arguments)[:, :, 1:]


def failing(*_: Any) -> Tensor:
    raise RuntimeError("the compiler says no")


def failing_when_large(*arguments: Any) -> Tensor:
    return equal(*arguments) if len(arguments[0]) == 1 else failing()


def timer_of(*milliseconds: float) -> Callable[[Callable[[], Tensor]], float]:
    """A timer that runs what it is given and answers times in this order."""
    times = iter(milliseconds)

    def timer(call: Callable[[], Tensor]) -> float:
        call()
        return next(times)

    return timer


@pytest.mark.parametrize(("times", "form"), [((2, 1), "triton"), ((1, 2), NATIVE), ((1, 1), NATIVE)])
def test_the_faster_form_is_chosen(times: tuple[float, float], form: str) -> None:
    choice = fastest(CASE, native, {"triton": equal}, SMALL, FULL, timer_of(*times))
    assert choice.form == form and choice.milliseconds == dict(zip((NATIVE, "triton"), times, strict=True))


def test_the_fastest_of_several_forms_is_chosen() -> None:
    forms = {"a": equal, "b": equal, "c": equal}
    assert fastest(CASE, native, forms, SMALL, FULL, timer_of(4, 3, 1, 2)).form == "b"


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (wrong, "ArithmeticError: values differ"),
        (undefined, "ArithmeticError: values differ by nan"),
        (another_shape, "ArithmeticError: shape"),
        (failing, "the compiler says no"),
        (failing_when_large, "the compiler says no"),
    ],
)
def test_a_form_that_fails_or_is_wrong_is_refused_with_a_warning(form: cuda.Form, reason: str) -> None:
    with pytest.warns(UserWarning, match=reason) as caught:
        choice = fastest(CASE, native, {"bad": form}, SMALL, FULL, timer_of(2, 1))
    assert choice.form == NATIVE and choice.milliseconds == {NATIVE: 2} and len(caught) == 1
    assert all(part in str(caught[0].message) for part in ("2x3x8x8", "5x3", "'bad'", "F.conv2d is"))


def test_a_refused_form_does_not_keep_others_from_being_chosen() -> None:
    with pytest.warns(UserWarning, match="'bad'"):
        choice = fastest(CASE, native, {"bad": failing, "good": equal}, SMALL, FULL, timer_of(2, 1))
    assert choice.form == "good"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Triton is there, with one form that is faster than PyTorch's; the list of operations that it computed."""
    calls: list[str] = []

    def forms(operation: str, *_: Any) -> dict[str, cuda.Form]:
        def form(*arguments: Any) -> Tensor:
            calls.append(operation)
            return cuda._NATIVE[operation](*arguments)

        return {"made up": form}

    monkeypatch.delenv("LKD_TRITON", raising=False)
    monkeypatch.setattr(cuda, "_TRITON_RUNS_HERE", True)
    monkeypatch.setattr(cuda, "_choices", {})
    monkeypatch.setattr(cuda, "_forms", lambda: forms)
    monkeypatch.setattr(cuda, "_milliseconds", timer_of(*[2, 1] * 9))
    return calls


def all_passes() -> tuple[Tensor, Tensor, Tensor]:
    return cuda.convolve(INPUT, WEIGHT), cuda.input_gradient(GRAD, WEIGHT), cuda.weight_gradient(INPUT, GRAD, (5, 3))


def test_each_operation_is_measured_once(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    all_passes()
    assert [choice.case.operation for choice in depthwise_choices()] == [
        "convolve",
        "input_gradient",
        "weight_gradient",
    ]
    asked.clear()
    monkeypatch.setattr(cuda, "_milliseconds", failing)
    all_passes()
    assert asked == OPERATIONS
    assert all(choice[1:] == ("made up", {NATIVE: 2, "made up": 1}) for choice in depthwise_choices())


@pytest.mark.parametrize(
    "other",
    [
        lambda: cuda.convolve(INPUT.half(), WEIGHT.half()),
        lambda: cuda.convolve(INPUT.contiguous(memory_format=torch.channels_last), WEIGHT),
        lambda: cuda.convolve(INPUT[:2], WEIGHT),
        lambda: cuda.convolve(INPUT, WEIGHT.mT),
    ],
)
def test_another_dtype_layout_shape_or_kernel_is_measured_anew(other: Callable[[], Tensor], asked: list[str]) -> None:
    cuda.convolve(INPUT, WEIGHT)
    other()
    assert len(depthwise_choices()) == 2


def test_measuring_leaves_the_random_state(asked: list[str]) -> None:
    state = torch.get_rng_state()
    all_passes()
    assert len(depthwise_choices()) == 3 and torch.equal(torch.get_rng_state(), state)


def test_nothing_is_measured_while_a_cuda_graph_is_recorded(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as recording:
        recording.setattr(cuda, "_is_capturing", lambda _: True)
        all_passes()
    assert not asked and not depthwise_choices()
    all_passes()
    assert len(depthwise_choices()) == 3


def test_nothing_is_measured_in_deterministic_mode(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    all_passes()
    assert not asked and not depthwise_choices()


def test_the_environment_turns_triton_off(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKD_TRITON", "0")
    all_passes()
    assert not asked and not depthwise_choices()


def test_the_environment_chooses_triton_without_measuring(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKD_TRITON", "1")
    monkeypatch.setattr(cuda, "_milliseconds", failing)
    all_passes()
    assert asked == OPERATIONS


def test_without_triton_pytorch_convolves(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_TRITON_RUNS_HERE", False)
    all_passes()
    assert not asked and not depthwise_choices()


def test_what_cannot_profit_is_not_measured(asked: list[str]) -> None:
    cuda.convolve(INPUT.double(), WEIGHT.double())
    cuda.convolve(INPUT, torch.randn(3, 1, 3, 3))
    assert not asked and not depthwise_choices()


def test_a_triton_that_cannot_be_imported_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_TRITON_RUNS_HERE", True)
    monkeypatch.setattr(cuda, "_choices", {})
    monkeypatch.setitem(sys.modules, "lkd.ops.triton_kernels", None)
    monkeypatch.delattr("lkd.ops.triton_kernels", raising=False)
    cuda._forms.cache_clear()
    with pytest.warns(UserWarning, match="Triton cannot be imported, F.conv2d is used"):
        output = cuda.convolve(INPUT, WEIGHT)
    with warnings.catch_warnings(action="error"):
        cuda.convolve(INPUT[:2], WEIGHT)
    cuda._forms.cache_clear()
    torch.testing.assert_close(output, native(INPUT, WEIGHT))


class Event:
    """A CUDA event whose times are made up: the second of each pair comes 1, 5, 3, ... ms after the first."""

    times = (1.0, 5.0, 3.0, 9.0, 2.0)
    made = 0

    def __init__(self, enable_timing: bool):
        assert enable_timing
        self.number = Event.made
        Event.made += 1

    def record(self) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: "Event") -> float:
        assert end.number == self.number + 1
        return self.times[self.number // 2]


def test_time_is_the_median_after_a_call_that_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    assert cuda._milliseconds(lambda: calls.append(1) or INPUT) == 3.0
    assert len(calls) == 6


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pytorchs_own_form_gives_its_values_and_gradients(layout: torch.memory_format) -> None:
    leaves = [INPUT.contiguous(memory_format=layout).requires_grad_(), WEIGHT.clone().requires_grad_()]
    output = native(*leaves)
    input_gradient, weight_gradient = torch.autograd.grad(output, leaves, GRAD)
    forms = cuda._NATIVE
    grad = GRAD.contiguous(memory_format=layout)
    for actual, expected in (
        (forms["convolve"](*leaves), output),
        (forms["input_gradient"](grad, WEIGHT), input_gradient),
        (forms["weight_gradient"](leaves[0], grad, (5, 3)), weight_gradient),
    ):
        torch.testing.assert_close(actual, expected)
    assert forms["input_gradient"](grad, WEIGHT).is_contiguous(memory_format=layout)


def on_fake_cuda(
    dtype: torch.dtype = torch.float32, kernel: tuple[int, int] = (5, 51)
) -> tuple[Tensor, Tensor, Tensor]:
    input = torch.empty(2, 3, 8, 8, device="cuda", dtype=dtype, memory_format=torch.channels_last)
    weight = torch.empty(3, 1, *kernel, device="cuda", dtype=dtype, requires_grad=True)
    return input, weight, torch.empty(3, device="cuda", dtype=dtype)


@pytest.mark.usefixtures("asked")
def test_on_cuda_the_operator_is_used_where_it_can_be_faster() -> None:
    with FakeTensorMode():
        outputs = depthwise_conv2d(*on_fake_cuda()), *depthwise_branches(*on_fake_cuda()[:1], [on_fake_cuda()[1]] * 2)
        others = [depthwise_conv2d(*on_fake_cuda(torch.float64)), depthwise_conv2d(*on_fake_cuda(kernel=(3, 3)))]
    assert all("lkd_depthwise_conv2d" in str(output.grad_fn) for output in outputs)
    assert all("lkd" not in str(output.grad_fn) for output in others)
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in outputs)


@pytest.mark.usefixtures("asked")
def test_autocast_on_cuda_casts_as_for_conv2d() -> None:
    kept = torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        with FakeTensorMode():
            input, weight, bias = on_fake_cuda()
            outputs = [depthwise_conv2d(input, weight.half(), bias), *depthwise_branches(input, [weight])]
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", kept)
    assert [output.dtype for output in outputs] == [torch.bfloat16] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("asked")
def test_compiles_on_cuda_to_one_operator() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        graphs.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    with FakeTensorMode():
        output = torch.compile(depthwise_conv2d, backend=backend, fullgraph=True)(*on_fake_cuda())
    assert output.shape == (2, 3, 8, 8) and graphs == [["lkd.depthwise_conv2d.default"]]
