"""Memory between training steps."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from lkd.engine.malloc import keep_freed_memory
{first}
for step in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.zeros(3 * 2**20) for _ in range(10)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


GIVEN_BACK = "import ctypes; ctypes.CDLL(None).mallopt(-3, 2**17)"
"""glibc's own threshold from which on memory goes back to the system, kept from rising by itself as it else may."""


def page_faults(first):
    done = subprocess.run([sys.executable, "-c", STEPS.format(first=first)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_a_step_gets_the_memory_of_the_step_before():
    assert page_faults("keep_freed_memory()") < 100 < 10_000 < page_faults(GIVEN_BACK)
