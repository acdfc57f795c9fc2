"""The end of processes that were started from here, also of those that are stopped or do not listen."""

import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress

_SECONDS = 5.0
"""What processes get to end by themselves, and then the system to end them."""

_LOOK_SECONDS = 0.05


def terminate(alive: Callable[[], Collection[int]]) -> None:
    """Terminate all of some processes, and kill those that live some seconds later, or at a second Ctrl-C.

    Args:
        alive: the ids of those that live.

    Example:
        >>> import subprocess, sys
        >>> from lkd.util.processes import terminate
        >>> process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        >>> terminate(lambda: [process.pid] if process.poll() is None else [])
        >>> process.returncode
        -15
    """
    try:
        _tell(alive(), signal.SIGTERM)
        _wait(alive)
    finally:
        _tell(alive(), signal.SIGKILL)
        _wait(alive)


def _tell(processes: Collection[int], what: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, what)


def _wait(alive: Callable[[], Collection[int]]) -> None:
    deadline = time.monotonic() + _SECONDS
    while alive() and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
