"""Progress of long computations: messages, bars, and counts shared between processes."""

import io
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Thread
from typing import TextIO, cast

from tqdm import tqdm

from lkd.util.files import writing
from lkd.util.temporary import temporary_folder
from lkd.util.waiting import FIRST_MESSAGE, NEXT_MESSAGE

Progress = Callable[[int], object]
"""Called with the number of images trained on since the last call."""

log = logging.getLogger("lkd")
log.addHandler(logging.NullHandler())

_PIPE = "LKD_PROGRESS"
"""Environment variable: the pipe for progress of a process without a visible terminal, such as a kernel."""


class Tally:
    """A growing count in a file, for readers in other processes.

    Args:
        path: the file.
        seconds: minimum interval between two writes.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lkd.util.progress import Tally, read_tally
        >>> tally = Tally(Path(tempfile.mkdtemp()) / "images", seconds=0)
        >>> tally(3)
        >>> tally(4)
        >>> read_tally(tally.path)
        7
    """

    def __init__(self, path: Path, seconds: float):
        self.path, self.seconds, self.count, self.written = path, seconds, 0, 0.0
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, more: int) -> None:
        """Add to the count."""
        self.count += more
        if time.monotonic() - self.written >= self.seconds:
            with suppress(OSError):  # a full disk stops the display of progress, not the work
                self.path.write_text(str(self.count))
            self.written = time.monotonic()


def read_tally(path: Path) -> int:
    """The count in the file of a `Tally`; 0 if the file is missing or empty."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0


def say(line: str) -> None:
    """Print a line to stderr; in a notebook, log it, to keep it off the page."""
    if _in_notebook():
        log.info(line)
    else:
        tqdm.write(f"lkd: {line}", file=sys.stderr)


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


_BAR = re.compile(r" *(\d+)%\|[^|]*\|")
"""Percentage and bar in a line of `progress_bar`."""


class Lines(io.TextIOBase):
    """A file for progress bars without a terminal: it prints the latest state once a minute.

    Args:
        write_line: prints a line.

    Example:
        >>> from lkd.util.progress import Lines
        >>> lines = Lines(print)
        >>> lines.next = 0.0
        >>> _ = lines.write("\\r3 of 5 runs done  60%|######    | 02:00 passed, 01:20 to go")
        3 of 5 runs done, 60 %, 02:00 passed, 01:20 to go
        >>> _ = lines.write("\\r4 of 5 runs done  80%|########  | 02:40 passed, 00:40 to go")
    """

    def __init__(self, write_line: Callable[[str], object]):
        self.write_line, self.next = write_line, time.monotonic() + FIRST_MESSAGE

    def write(self, text: str) -> int:
        """Print the last state of a bar in the text, if a minute has passed."""
        states = [state for state in re.split(r"[\r\n]|\x1b\[A", text) if state.strip()]
        if states and (now := time.monotonic()) >= self.next:
            self.next = now + NEXT_MESSAGE
            self.write_line(_BAR.sub(r", \1 %,", states[-1].strip()))
        return len(text)


def bar_file() -> TextIO | None:
    """The file for progress bars: None for the terminal, or, without one, a line a minute."""
    return None if sys.stderr.isatty() else cast(TextIO, Lines(say))


@contextmanager
def progress_bar(total: float) -> Iterator["tqdm[None]"]:
    """A progress bar on this terminal or on the parent process's (see `shown_here`); without one, a line a minute."""
    with _listener() or nullcontext(bar_file()) as file:
        with tqdm(
            total=total,
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed} passed, {remaining} to go",
            file=file,
            smoothing=0.05,
            leave=False,
        ) as bar:
            yield bar


def _listener() -> TextIO | None:
    """The pipe of `shown_here`; None without a reader, since opening it would then block forever."""
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
    """Show the progress bars of child processes within the block: on this terminal, or as a line a minute."""
    with temporary_folder() as folder:
        pipe = folder / "progress"
        os.mkfifo(pipe)
        descriptor = os.open(pipe, os.O_RDWR)
        Thread(target=_copy, args=(descriptor, bar_file() or sys.stderr), daemon=True).start()
        os.environ[_PIPE] = str(pipe)
        try:
            yield
        finally:
            del os.environ[_PIPE]


def _copy(descriptor: int, file: TextIO) -> None:
    while text := os.read(descriptor, 4096):
        file.write(text.decode(errors="replace"))
        file.flush()
