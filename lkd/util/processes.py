"""Termination of child processes, including stopped and unresponsive ones."""

import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress

_SECONDS = 5.0
"""Time for processes to end by themselves, and then for the system to kill them."""

_LOOK_SECONDS = 0.05


def terminate(alive: Callable[[], Collection[int]]) -> None:
    """Terminate processes, and kill the remaining ones after 5 seconds or at a second Ctrl-C.

    Args:
        alive: returns the ids of the processes that still run.

    Example:
        >>> import subprocess, sys
        >>> from lkd.util.processes import terminate
        >>> process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        >>> terminate(lambda: [process.pid] if process.poll() is None else [])
        >>> process.returncode
        -15
    """
    try:
        _send(alive(), signal.SIGTERM)
        _wait(alive)
    finally:
        _send(alive(), signal.SIGKILL)
        _wait(alive)


def _send(processes: Collection[int], sent: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, sent)


def _wait(alive: Callable[[], Collection[int]]) -> None:
    deadline = time.monotonic() + _SECONDS
    while alive() and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
