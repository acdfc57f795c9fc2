"""Compile the Triton kernels as a launch on a GPU does, on a machine without one; print what they need as JSON.

A driver that is made up names the GPU, and a launch ends after the compiler.
"""

import json
import sys
import tempfile
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from lkd.ops import triton_kernels

CASES = [
    (90, "bfloat16", "NHWC", 124, 56, (51, 5)),
    (90, "bfloat16", "NCHW", 998, 7, (13, 5)),
    (80, "float16", "NCHW", 249, 28, (5, 49)),
    (90, "float32", "NCHW", 499, 14, (47, 5)),
]
"""Compute capability, dtype, memory format, channels, side of the map, kernel."""


class Driver:
    """Of a GPU that is not there."""

    def __init__(self, capability: int):
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return self.target.arch

    def get_current_stream(self, _: int) -> int:
        return 0


def compiled(capability: int, dtype: str, layout: str, channels: int, side: int, kernel: tuple[int, int]) -> list[Any]:
    """Each kernel that the operations of a shape launch: name, bytes of shared memory, size of the binary."""
    driver.set_active(Driver(capability))
    kernels: list[Any] = []
    run = JITFunction.run

    def stop_before_launch(self: Any, *args: Any, **kwargs: Any) -> None:
        made = run(self, *args, **{**kwargs, "warmup": True})
        kernels.append((self.__name__, made.metadata.shared, len(made.asm["cubin"])))

    memory_format = torch.channels_last if layout == "NHWC" else torch.contiguous_format
    input = torch.empty(64, channels, side, side, dtype=getattr(torch, dtype)).to(memory_format=memory_format)
    weight, bias = input.new_empty(channels, 1, *kernel), input.new_empty(channels)
    JITFunction.run = stop_before_launch
    try:
        for operation, arguments in (
            ("convolve", (input, weight, bias)),
            ("input_gradient", (input, weight)),
            ("weight_gradient", (input, input, kernel)),
        ):
            for form in triton_kernels.forms(operation, input.shape, kernel).values():
                form(*arguments)
    finally:
        JITFunction.run = run
    return kernels


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        triton.knobs.cache.dir = folder
        json.dump([compiled(*case) for case in CASES], sys.stdout)
