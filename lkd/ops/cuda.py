"""Depthwise convolution on a CUDA device: Triton kernels or PyTorch's own, whichever is faster for the shape.

Each operation (convolution, gradient of the input, gradient of the weight) is measured when a shape, dtype, layout and
kernel is first seen on a device, as `torch.backends.cudnn.benchmark` does; the choice holds for the process. A Triton
kernel that fails, or differs in value from a float64 convolution, is not used. `LKD_TRITON=0` in the environment turns
Triton off, `LKD_TRITON=1` uses it without measuring.

The kernels are tested in Triton's interpreter. Measurements on a GPU are in `book/gpu.md`.
"""

import os
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.ops.geometry import layout_of, same_padding

NATIVE = "F.conv2d"
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 2e-2}
"""Largest error of a Triton form against float64, relative to the largest value."""
_TRITON_RUNS_HERE = find_spec("triton") is not None and torch.version.hip is None

Form = Callable[..., Tensor]
Arguments = tuple[Any, ...]
Timer = Callable[[Callable[[], Tensor]], float]


class Case(NamedTuple):
    """An operation, and all that decides how fast its forms are."""

    operation: str
    """`convolve`, `input_gradient` or `weight_gradient`."""
    device: torch.device
    dtype: torch.dtype
    layout: torch.memory_format
    shape: tuple[int, ...]
    """`(B, C, H, W)`."""
    kernel: tuple[int, ...]
    """Height and width."""

    def __str__(self) -> str:
        shape, kernel = ("x".join(map(str, sides)) for sides in (self.shape, self.kernel))
        return f"{self.operation}, map {shape}, kernel {kernel}, {self.dtype}, {self.layout}, {self.device}"


class DepthwiseChoice(NamedTuple):
    """The form that is used for a case."""

    case: Case
    """`operation`, `device`, `dtype`, `layout`, `shape` and `kernel`."""
    form: str
    """`F.conv2d`, or the name of a Triton form."""
    milliseconds: dict[str, float]
    """Time of each form that gives right values; empty where nothing was measured."""


_choices: dict[Case, DepthwiseChoice] = {}


def depthwise_choices() -> list[DepthwiseChoice]:
    """The forms chosen on CUDA devices in this process, with the measured times.

    Returns:
        One entry for each operation, device, dtype, memory format, shape and kernel, in the order of first use.

    Example:
        >>> from lkd.ops import depthwise_choices
        >>> for case, form, milliseconds in depthwise_choices():
        ...     print(case, form, milliseconds)
    """
    return list(_choices.values())


def worthwhile(input: Tensor, kernel: Sequence[int]) -> bool:
    """Whether a Triton kernel may be used for an input, and can be faster than `F.conv2d`."""
    return input.dtype in _TOLERANCE and max(kernel) > 3 and input.numel() > 0 and _allowed()


def convolve(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.conv2d(input, weight, bias, groups=C)`, in the memory format of `input`."""
    return _run("convolve", weight.shape[2:], input, weight, bias)


def input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """`dL/dinput` of `convolve` for `grad = dL/doutput`, in the memory format of `grad`."""
    return _run("input_gradient", weight.shape[2:], grad, weight)


def weight_gradient(input: Tensor, grad: Tensor, kernel: Sequence[int]) -> Tensor:
    """`dL/dweight` of `convolve`, `(C, 1, *kernel)`, for `grad = dL/doutput`."""
    return _run("weight_gradient", kernel, input, grad, tuple(kernel))


def _allowed() -> bool:
    deterministic = torch.are_deterministic_algorithms_enabled()
    return _TRITON_RUNS_HERE and not deterministic and os.environ.get("LKD_TRITON") != "0"


def _run(operation: str, kernel: Sequence[int], *arguments: Any) -> Tensor:
    input, native = arguments[0], _NATIVE[operation]
    if not worthwhile(input, kernel):
        return native(*arguments)
    case = Case(operation, input.device, input.dtype, layout_of(input), tuple(input.shape), tuple(kernel))
    forms = _forms()(operation, case.shape, case.kernel)
    return {NATIVE: native, **forms}[_form(case, forms, arguments)](*arguments)


@cache
def _forms() -> Callable[..., dict[str, Form]]:
    """`triton_kernels.forms`; no forms at all where Triton is installed but cannot be imported."""
    try:
        from lkd.ops import triton_kernels
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"Triton cannot be imported, F.conv2d is used instead: {reason}", stacklevel=2)
        return lambda *_: {}
    return triton_kernels.forms


def _form(case: Case, forms: Mapping[str, Form], arguments: Arguments) -> str:
    """The name of the form for a case; it is measured, unless it is known or there is nothing to choose."""
    if case not in _choices:
        if os.environ.get("LKD_TRITON") == "1" or not forms:
            _choices[case] = DepthwiseChoice(case, next(iter(forms), NATIVE), {})
        elif _is_capturing(case.device):
            return NATIVE
        else:
            with torch.cuda.device_of(arguments[0]):
                small = _small(case, arguments)
                _choices[case] = fastest(case, _NATIVE[case.operation], forms, small, arguments, _milliseconds)
    return _choices[case].form


def _is_capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is recorded, in which nothing can be timed."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def fastest(
    case: Case, native: Form, forms: Mapping[str, Form], small: Arguments, full: Arguments, timer: Timer
) -> DepthwiseChoice:
    """The fastest form, from PyTorch's own and the others; forms that fail or give wrong values are left out.

    Args:
        case: for the report and for warnings.
        native: PyTorch's own form, against which the others are checked and timed.
        forms: the others by name.
        small: arguments on which values are compared.
        full: arguments on which times are compared.
        timer: milliseconds of a call.
    """
    times = {NATIVE: timer(lambda: native(*full))}
    expected = native(*(value.double() if isinstance(value, Tensor) else value for value in small))
    for name, form in forms.items():
        try:
            _check(form(*small), expected, _TOLERANCE[case.dtype])
            times[name] = timer(lambda form=form: form(*full))  # type: ignore[misc]
        except Exception as error:  # of the compiler, the driver or in values: PyTorch's own form works
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"{case}: the Triton kernel {name!r} is not used, but F.conv2d is: {reason}", stacklevel=2)
    return DepthwiseChoice(case, min(times, key=lambda name: times[name]), times)


def _check(output: Tensor, expected: Tensor, tolerance: float) -> None:
    if output.shape != expected.shape:
        raise ArithmeticError(f"shape is {tuple(output.shape)}, not {tuple(expected.shape)}")
    error, largest = (output.double() - expected).abs().max().item(), expected.abs().max().item()
    if not error <= tolerance * largest:
        raise ArithmeticError(f"values differ by {error:.2g} from float64, where the largest is {largest:.2g}")


def _small(case: Case, arguments: Arguments) -> Arguments:
    """Random arguments of a case, of two images at most; the global random state does not change."""
    generator = torch.Generator(case.device).manual_seed(0)

    def drawn(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        is_map = value.shape == case.shape
        shape = value[:2].shape if is_map else value.shape
        layout = case.layout if is_map else torch.contiguous_format
        random = torch.randn(shape, generator=generator, device=case.device, dtype=torch.float32)
        return random.to(case.dtype).contiguous(memory_format=layout)

    return tuple(map(drawn, arguments))


def _milliseconds(call: Callable[[], Tensor], repetitions: int = 5) -> float:
    """Median time on the device, after a call that is not counted."""
    call()
    times = []
    for _ in range(repetitions):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def _native_convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    with torch.autocast(input.device.type, enabled=False):
        output = F.conv2d(input, weight, bias, padding=same_padding(weight), groups=input.shape[1])
    return output.contiguous(memory_format=layout_of(input))


def _native_input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    gradient, _, _ = _native_backward(grad, grad, weight, [True, False, False])
    return gradient.contiguous(memory_format=layout_of(grad))


def _native_weight_gradient(input: Tensor, grad: Tensor, kernel: Sequence[int]) -> Tensor:
    weight = input.new_empty(input.shape[1], 1, *kernel)
    return _native_backward(grad, input, weight, [False, True, False])[1].contiguous()


def _native_backward(grad: Tensor, input: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
    """PyTorch's own backward pass; it reads of a gradient's own tensor no more than shape and memory format."""
    padding, groups = list(same_padding(weight)), input.shape[1]
    with torch.autocast(input.device.type, enabled=False):
        return torch.ops.aten.convolution_backward(
            grad, input, weight, None, [1, 1], padding, [1, 1], False, [0, 0], groups, wanted
        )


_NATIVE: dict[str, Form] = {
    "convolve": _native_convolution,
    "input_gradient": _native_input_gradient,
    "weight_gradient": _native_weight_gradient,
}
