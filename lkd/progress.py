"""Progress of long work, shown on the terminal of whoever waits for it."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Thread

from tqdm import tqdm

_PIPE = "LKD_PROGRESS"
"""Environment variable: where progress is written by a process whose own terminal nobody sees, such as a kernel."""


@contextmanager
def progress_bar(total: float) -> Iterator["tqdm[None]"]:
    """A bar with the time passed and to go: on the terminal if there is one, or where `shown_here` listens."""
    path = os.environ.get(_PIPE)
    with Path(path).open("w") if path else nullcontext() as file:
        with tqdm(
            total=total,
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed} passed, {remaining} to go",
            disable=False if path else None,
            file=file,
            smoothing=0.05,
            leave=False,
        ) as bar:
            yield bar


@contextmanager
def shown_here() -> Iterator[None]:
    """Within this block, show on this terminal the bars of processes started from here."""
    if not sys.stderr.isatty():
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "progress"
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
