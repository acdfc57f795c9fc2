"""Progress of long work, shown on the terminal of whoever waits for it."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Thread
from typing import TextIO

from tqdm import tqdm

from lkd.util.files import writing
from lkd.util.temporary import temporary_folder

Progress = Callable[[int], object]
"""Called with a number of images whenever so many more have gone through training."""

log = logging.getLogger("lkd")
log.addHandler(logging.NullHandler())

_PIPE = "LKD_PROGRESS"
"""Environment variable: where progress is written by a process whose own terminal nobody sees, such as a kernel."""


class Tally:
    """A count that grows, in a file, for whoever follows it from another process.

    Args:
        path: of the file.
        seconds: least time between two writings.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lkd.util.progress import Tally, tallied
        >>> tally = Tally(Path(tempfile.mkdtemp()) / "images", seconds=0)
        >>> tally(3)
        >>> tally(4)
        >>> tallied(tally.path)
        7
    """

    def __init__(self, path: Path, seconds: float):
        self.path, self.seconds, self.count, self.written = path, seconds, 0, 0.0
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, more: int) -> None:
        """Count so many more."""
        self.count += more
        if time.monotonic() - self.written >= self.seconds:
            with suppress(OSError):  # a full disk stops the display of progress, not the work
                self.path.write_text(str(self.count))
            self.written = time.monotonic()


def tallied(path: Path) -> int:
    """The count in a file that a `Tally` writes; 0 where there is none, or none yet."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0


def say(line: str) -> None:
    """A line for whoever waits, on stderr; in a notebook, where it would stand on the page, in the log instead."""
    if _in_notebook():
        log.info(line)
    else:
        tqdm.write(f"lkd: {line}", file=sys.stderr)


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


@contextmanager
def progress_bar(total: float) -> Iterator["tqdm[None]"]:
    """A bar with the time passed and to go: on the terminal if there is one, or where `shown_here` listens."""
    with _listener() or nullcontext() as file:
        with tqdm(
            total=total,
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed} passed, {remaining} to go",
            disable=False if file else None,
            file=file,
            smoothing=0.05,
            leave=False,
        ) as bar:
            yield bar


def _listener() -> TextIO | None:
    """Where `shown_here` listens; None where nobody listens any more, and opening the pipe would wait for ever."""
    if not (path := os.environ.get(_PIPE)):
        return None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "w")


@contextmanager
def shown_here() -> Iterator[None]:
    """Within this block, show on this terminal the bars of processes started from here."""
    if not sys.stderr.isatty():
        yield
        return
    with temporary_folder() as folder:
        pipe = folder / "progress"
        os.mkfifo(pipe)
        descriptor = os.open(pipe, os.O_RDWR)
        Thread(target=_copy, args=(descriptor,), daemon=True).start()
        os.environ[_PIPE] = str(pipe)
        try:
            yield
        finally:
            del os.environ[_PIPE]


def _copy(descriptor: int) -> None:
    while text := os.read(descriptor, 4096):
        sys.stderr.write(text.decode(errors="replace"))
        sys.stderr.flush()
