"""Worker processes that prefetch: results, errors and shutdown."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from lkd.data import prefetch

CODE = """
import multiprocessing, os
from lkd.data.prefetch import prefetch

def busy(item):
    return os.getpid()

if __name__ == "__main__":
    multiprocessing.set_start_method("{method}")
    made = prefetch(busy, range(1000), workers=2)
    print(next(made), next(made), flush=True)
    input()
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
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


class Unsendable(Exception):
    def __init__(self, first: int, second: int):
        super().__init__(f"{first} and {second}")


def die(item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(item: int) -> None:
    raise ValueError(f"item {item} is bad")


def fail(item: int) -> None:
    raise Unsendable(item, 2)


def sleep(item: int) -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (die, OSError, "^a worker process died .*: use workers=0"),
        (refuse, ValueError, "^item 0 is bad$"),
        (fail, RuntimeError, "^Unsendable: 0 and 2$"),
    ],
)
def test_what_ends_a_worker_is_told(make: Callable[[int], None], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        list(prefetch.prefetch(make, range(4), workers=1))


def test_workers_that_make_nothing_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(prefetch, "_GIVE_UP_SECONDS", 0.1)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    with pytest.raises(TimeoutError, match=r"gave up after 0 s of waiting for worker processes .*: use workers=0"):
        list(prefetch.prefetch(sleep, range(4), workers=1))


LARGE = """
import torch
from lkd.data.prefetch import prefetch

def large(item):
    return torch.zeros(1_000_000)

if __name__ == "__main__":
    list(prefetch(large, range(4), workers=2))
"""


@pytest.mark.slow
def test_too_little_shared_memory_is_named_and_hangs_nothing(tmp_path: Path) -> None:
    (script := tmp_path / "reads.py").write_text(LARGE)
    small = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=1M tmpfs /dev/shm || exit 77; exec "$0" "$1"']
    done = subprocess.run([*small, sys.executable, script], capture_output=True, text=True, timeout=60)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("no mount namespaces on this machine")
    assert "OSError: worker processes have no shared memory left for results" in done.stderr, done.stderr
    assert "use workers=0, or make /dev/shm larger (" in done.stderr and " of 1,048,576 bytes are free" in done.stderr
