"""Waiting for others: said on stderr, and given up after a time where nothing can come any more."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from lkd.util.files import writing

FIRST, NEXT = 5.0, 60.0
"""Seconds of waiting until it is said for the first time, and from one time to the next."""

_LOOK = 0.5


class Patience:
    """A wait that is said on stderr after 5 seconds and then every minute, and given up after a time.

    Args:
        seconds: when it is given up; by default never.

    Example:
        >>> from lkd.util.waiting import Patience
        >>> patience = Patience(seconds=0)
        >>> patience("a friend")
        Traceback (most recent call last):
        TimeoutError: gave up after 0 s of waiting for a friend
    """

    def __init__(self, seconds: float = math.inf):
        self.seconds, self.start, self.next = seconds, time.monotonic(), FIRST

    def __call__(self, what: str) -> None:
        """Wait on; to be called again and again while the wait lasts.

        Args:
            what: is waited for.

        Raises:
            TimeoutError: the wait has lasted too long.
        """
        waited = time.monotonic() - self.start
        if waited >= self.seconds:
            raise TimeoutError(f"gave up after {waited:.0f} s of waiting for {what}")
        if waited >= self.next:
            self.next = waited + NEXT
            limit = "" if math.isinf(self.seconds) else f", gives up after {self.seconds:.0f} s"
            tqdm.write(f"lkd: waits for {what} ({waited:.0f} s so far{limit})", file=sys.stderr)


@contextmanager
def held(lock: FileLock, purpose: str, seconds: float = math.inf) -> Iterator[None]:
    """Hold a lock within the block; while another process holds it, say so.

    Args:
        lock: which.
        purpose: what its holder does, "trains run 3f2a" for example.
        seconds: when the wait is given up; by default never: a lock is free as soon as its holder ends.

    Raises:
        TimeoutError: another process has held it for so long.
    """
    patience = Patience(seconds)
    while not acquired(lock, _LOOK):
        patience(f"{holder(lock)}, which {purpose}")
    try:
        yield
    finally:
        lock.release()


def acquired(lock: FileLock, seconds: float) -> bool:
    """Whether a lock could be had within some time; if so, it is held.

    Raises:
        OSError: its file cannot be written; names it and the remedy.
    """
    try:
        with writing(Path(lock.lock_file)):
            lock.acquire(timeout=seconds)
    except Timeout:
        return False
    return True


def holder(lock: FileLock) -> str:
    """The process that holds a lock, in words; Linux tells its id where it runs on this machine."""
    try:
        number = Path(lock.lock_file).stat().st_ino
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "FLOCK" in line]
        process = next(words[4] for words in held if words[1] != "->" and words[5].endswith(f":{number}"))
    except (OSError, StopIteration, IndexError):
        return "another process, perhaps on another machine"
    return f"process {process}"
