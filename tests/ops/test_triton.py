"""Triton's kernels equal `F.conv2d(groups=C)` in float64: values, gradients, second derivatives; and GPUs can run them.

One process runs all kernels in Triton's interpreter, for about 40 seconds on one CPU; another compiles them, for 15.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from in_interpreter import CASES

COMPILED = [(90, "bfloat16", 56), (90, "bfloat16", 7), (80, "float16", 28), (90, "float32", 14)]
SHARED_MEMORY = 163 * 1024
"""Bytes that a block may have on compute capability 8.0, the lesser of the two."""
pytest.importorskip("triton", reason="Triton has no wheel for this platform")
TOLERANCE = {"float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}
"""Of one rounding of a result, which the interpreter truncates to bfloat16; accumulation is in float32."""


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """Errors of all kernels in the interpreter."""
    return printed_by("in_interpreter.py", TRITON_INTERPRET="1", LKD_TRITON="1")


@pytest.fixture(scope="module")
def compiled() -> list[list[tuple[str, int, int]]]:
    """The kernels of each compiled case."""
    return printed_by("compiling.py", TRITON_INTERPRET="0")


def printed_by(script: str, **environment: str) -> Any:
    """What a script here prints, which is JSON."""
    command = [sys.executable, str(Path(__file__).with_name(script))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CASES)), ids=map(str, CASES))
def test_every_form_of_a_pass_gives_the_values_of_conv2d(number: int, results: dict[str, Any]) -> None:
    errors = results["cases"][number]
    assert {"convolve", "input_gradient", "weight_gradient"} == {name.split()[0] for name in errors}
    for name, error in errors.items():
        assert error is not False and 0 <= error <= TOLERANCE[CASES[number][2]], name


@pytest.mark.slow
def test_second_derivatives_are_those_of_conv2d(results: dict[str, Any]) -> None:
    assert len(results["second derivatives"]) == 6 and max(results["second derivatives"]) < 1e-5


@pytest.mark.slow
def test_results_repeat_bit_by_bit(results: dict[str, Any]) -> None:
    assert results["repeats"] is True


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(COMPILED)), ids=map(str, COMPILED))
def test_kernels_compile_for_gpus_and_fit_into_their_memory(
    number: int, compiled: list[list[tuple[str, int, int]]]
) -> None:
    kernels = compiled[number]
    assert {"_toeplitz_kernel", "_toeplitz_products_kernel", "_diagonals_kernel"} <= {name for name, _, _ in kernels}
    assert all(shared <= SHARED_MEMORY and size for _, shared, size in kernels)
