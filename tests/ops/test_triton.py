"""Triton's kernels equal `F.conv2d(groups=C)` in float64: values, gradients and second derivatives.

One process runs all kernels in Triton's interpreter, for about 45 seconds on one CPU.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from in_interpreter import CASES

pytest.importorskip("triton", reason="Triton has no wheel for this platform")
TOLERANCE = {"float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}
"""Of one rounding of a result, which the interpreter truncates to bfloat16; accumulation is in float32."""


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """Errors of all kernels in the interpreter."""
    script = Path(__file__).with_name("in_interpreter.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "LKD_TRITON": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
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
