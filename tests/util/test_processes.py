"""Processes are terminated, and killed if they ignore that."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from short import stop

from lkd.util import processes as ending
from lkd.util.processes import terminate

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a sleeping process that has first done as it was told."""
    started = []

    def begun(code: str = "pass") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", f"import signal, time; {code}; print(flush=True); time.sleep(60)"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        started[-1].stdout.readline()
        return started[-1]

    yield begun
    for process in started:
        process.kill()
        process.communicate()


def alive(*processes: subprocess.Popen[str]) -> Callable[[], list[int]]:
    return lambda: [process.pid for process in processes if process.poll() is None]


def test_all_processes_are_terminated_at_once_and_unresponsive_ones_killed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_GRACE_SECONDS", 0.5)
    stopped, deaf, good = start(), start("signal.signal(signal.SIGTERM, signal.SIG_IGN)"), start()
    stop(stopped.pid)
    terminate(alive(stopped, deaf, good))
    assert [process.returncode for process in (stopped, deaf, good)] == [-9, -9, -15]


def test_a_second_interrupt_kills_at_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf, begun = start("signal.signal(signal.SIGTERM, signal.SIG_IGN)"), time.monotonic()

    def interrupted(_: float) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(ending.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        terminate(alive(deaf))
    assert deaf.returncode == -9 and time.monotonic() - begun < ending._GRACE_SECONDS
