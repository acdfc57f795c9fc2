"""Waiting for other processes, with messages on stderr and an optional timeout."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from lkd.util.files import writing

FIRST_MESSAGE, NEXT_MESSAGE = 5.0, 60.0
"""Seconds until the first message, and between messages."""

_RETRY_SECONDS = 0.5


class Patience:
    """A timeout, with a message on stderr after 5 seconds of waiting and then every minute.

    Args:
        seconds: the timeout; none by default.

    Example:
        >>> from lkd.util.waiting import Patience
        >>> patience = Patience(seconds=0)
        >>> patience("a friend")
        Traceback (most recent call last):
        TimeoutError: gave up after 0 s of waiting for a friend
    """

    def __init__(self, seconds: float = math.inf):
        self.seconds, self.start, self.next = seconds, time.monotonic(), FIRST_MESSAGE

    def __call__(self, what: str) -> None:
        """Print a message if one is due, or give up. Call it repeatedly while waiting.

        Args:
            what: the awaited process or event, for messages.

        Raises:
            TimeoutError: the timeout has passed.
        """
        waited = time.monotonic() - self.start
        if waited >= self.seconds:
            raise TimeoutError(f"gave up after {waited:.0f} s of waiting for {what}")
        if waited >= self.next:
            self.next = waited + NEXT_MESSAGE
            limit = "" if math.isinf(self.seconds) else f", gives up after {self.seconds:.0f} s"
            tqdm.write(f"lkd: waits for {what} ({waited:.0f} s so far{limit})", file=sys.stderr)


@contextmanager
def held(lock: FileLock, purpose: str, seconds: float = math.inf) -> Iterator[None]:
    """Hold a lock within the block; prints messages while another process holds it.

    Args:
        purpose: the holder's work, "trains run 3f2a" for example.
        seconds: the timeout; none by default, since a lock is released when its holder ends.

    Raises:
        TimeoutError: another process held the lock until the timeout.
    """
    patience = Patience(seconds)
    while not try_acquire(lock, _RETRY_SECONDS):
        patience(f"{describe_holder(lock)}, which {purpose}")
    try:
        yield
    finally:
        lock.release()


def try_acquire(lock: FileLock, seconds: float) -> bool:
    """Try to acquire a lock for some seconds; return whether it is now held.

    Raises:
        OSError: the lock's file cannot be written; names it and the remedy.
    """
    try:
        with writing(Path(lock.lock_file)):
            lock.acquire(timeout=seconds)
    except Timeout:
        return False
    return True


def describe_holder(lock: FileLock) -> str:
    """A description of the process that holds a lock, with its id on Linux if it runs on this machine."""
    try:
        number = Path(lock.lock_file).stat().st_ino
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "FLOCK" in line]
        process = next(words[4] for words in held if words[1] != "->" and words[5].endswith(f":{number}"))
    except (OSError, StopIteration, IndexError):
        return "another process, perhaps on another machine"
    return f"process {process}"
