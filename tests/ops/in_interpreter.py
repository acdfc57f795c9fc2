"""Run the Triton kernels on a CPU in Triton's interpreter, in a process of their own; print their errors as JSON.

`TRITON_INTERPRET=1` must be in the environment before anything imports Triton, which PyTorch also does.
"""

import json
import sys
from dataclasses import replace
from itertools import cycle, product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.ops import cuda, operators

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
KERNELS = [(1, 1), (3, 3), (5, 51), (51, 5), (5, 13), (7, 7), (31, 31)]
MAPS = [(1, 1), (5, 7), (7, 7), (14, 14), (16, 9)]
HALF = list(product([(5, 51), (51, 5), (7, 7)], [(5, 7), (14, 14)], ["float16", "bfloat16"]))
LONG = [((3, 51), (20, 66), "float16"), ((51, 3), (66, 20), "float32")]
"""Maps of more than one tile along the long axis, which are many, so that a weight gradient is summed in parts."""
CASES = [
    (kernel, size, dtype, layout)
    for (kernel, size, dtype), layout in zip(
        [*product(KERNELS, MAPS, ["float32"]), *HALF, *LONG], cycle(LAYOUTS), strict=False
    )
]
"""Kernel, map, dtype, layout."""
BATCH, CHANNELS, LARGE_BATCH = 2, 2, 14


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def reference(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    return F.conv2d(input, weight, bias, padding=padding, groups=input.shape[1])


def error(output: Tensor, expected: Tensor) -> float:
    """The largest error, relative to the largest value."""
    return ((output.double() - expected).abs().max() / expected.abs().max()).item()


def errors_of(case: tuple[tuple[int, int], tuple[int, int], str, str]) -> dict[str, Any]:
    """Errors of all forms of the three operations; false where dtype, shape or memory format is not the right one."""
    from lkd.ops import triton_kernels

    kernel, size, dtype, layout = case
    shape = (LARGE_BATCH if case[:3] in LONG else BATCH, CHANNELS, *size)

    def made(tensor: Tensor) -> Tensor:
        memory_format = LAYOUTS[layout] if tensor.shape == shape else torch.contiguous_format
        return tensor.to(DTYPES[dtype]).contiguous(memory_format=memory_format)

    input, grad = made(normal(*shape, seed=0)), made(normal(*shape, seed=1))
    weight, bias = made(normal(CHANNELS, 1, *kernel[::-1], seed=2)).mT, made(normal(2 * CHANNELS, seed=3))[::2]
    exact = [tensor.double().requires_grad_() for tensor in (input, weight)]
    output = reference(*exact, bias.double())
    gradients = torch.autograd.grad(output, exact, grad.double())
    found = {}
    for operation, arguments, expected in (
        ("convolve", (input, weight, bias), output),
        ("input_gradient", (grad, weight), gradients[0]),
        ("weight_gradient", (input, grad, kernel), gradients[1]),
    ):
        for name, form in triton_kernels.forms(operation, shape, kernel).items():
            if name == "taps" and kernel in ((5, 51), (5, 13)):
                continue  # (51, 5) has as many, which take long in the interpreter
            actual = form(*arguments)
            alike = actual.dtype == input.dtype and actual.shape == expected.shape
            kept = operation == "weight_gradient" or actual.is_contiguous(memory_format=LAYOUTS[layout])
            found[f"{operation} {name}"] = alike and kept and error(actual, expected.detach())
    return found


def second_derivatives() -> list[float]:
    """Errors of the second derivatives of an operator that runs on Triton; needs `LKD_TRITON=1`."""
    library = torch.library.Library("lkd", "IMPL", "CPU")
    for name, function in (
        ("depthwise_conv2d", cuda.convolve),
        ("depthwise_input_gradient", cuda.input_gradient),
        ("depthwise_weight_gradient", cuda.weight_gradient),
    ):
        library.impl(name, function, allow_override=True)
    results = []
    for convolution, dtype in ((operators.convolution, torch.float32), (reference, torch.float64)):
        shapes = (BATCH, CHANNELS, 6, 7), (CHANNELS, 1, 5, 7), (CHANNELS,)
        leaves = [normal(*shape, seed=seed).to(dtype).requires_grad_() for seed, shape in enumerate(shapes)]
        slopes = torch.autograd.grad(convolution(*leaves).pow(3).sum(), leaves, create_graph=True)
        results.append([*slopes, *torch.autograd.grad(sum(slope.square().sum() for slope in slopes), leaves)])
    return [error(ours, theirs) for ours, theirs in zip(*results, strict=True)]


def repeats() -> bool:
    """Whether two runs of each operation give the same bits."""
    input, weight = normal(BATCH, CHANNELS, 9, 8, seed=0).half(), normal(CHANNELS, 1, 7, 5, seed=1).half()
    runs = [
        (cuda.convolve(input, weight), cuda.input_gradient(input, weight), cuda.weight_gradient(input, input, (7, 5)))
        for _ in range(2)
    ]
    return all(map(torch.equal, *runs))


def prepare_interpreter() -> None:
    """Let the interpreter multiply bfloat16 matrices, of which it sees the bits, and save its checks for overflow."""
    from triton.runtime import interpreter

    multiply = interpreter.InterpreterBuilder.create_dot

    def widened(handle: Any) -> Any:
        if handle.data.dtype != np.uint16:
            return handle
        bits = (handle.data.astype(np.uint32) << 16).view(np.float32)
        return interpreter.TensorHandle(bits, interpreter.tl.float32)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return multiply(self, widened(a), widened(b), *rest)

    interpreter.InterpreterBuilder.create_dot = create_dot
    builder = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=False)


def main() -> None:
    """Print the results."""
    torch.set_num_threads(1)
    prepare_interpreter()
    found = {"repeats": repeats(), "second derivatives": second_derivatives()}
    json.dump({**found, "cases": [errors_of(case) for case in CASES]}, sys.stdout)


if __name__ == "__main__":
    main()
