"""Work done ahead in worker processes: what becomes of them."""

import signal
import subprocess
import sys

import psutil
import pytest

CODE = """
import multiprocessing, os
from lkd.data.ahead import made_ahead

def busy(item):
    return os.getpid()

if __name__ == "__main__":
    multiprocessing.set_start_method("{method}")
    made = made_ahead(busy, range(1000), workers=2)
    print(next(made), next(made), flush=True)
    input()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_end_when_the_process_they_work_for_is_killed(method: str, tmp_path) -> None:
    script = tmp_path / "reads.py"
    script.write_text(CODE.format(method=method))
    reader = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    workers = [psutil.Process(int(pid)) for pid in reader.stdout.readline().split()]
    reader.send_signal(signal.SIGKILL)
    reader.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert len(workers) == 2 and not alive
