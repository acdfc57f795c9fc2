"""Progress without a terminal: a line a minute with the share, the time passed, and the time left; about 1 second."""

import io
import os
import subprocess
import sys
import time

import pytest

from lkd.util import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_first_line_comes_after_seconds_and_the_next_after_a_minute(clock: list[float]) -> None:
    printed: list[str] = []
    lines = progress.Lines(printed.append)
    for seconds in range(130):
        clock[0] = float(seconds)
        lines.write(f"\r{seconds} of 130 runs done  {seconds}%|##  | 00:{seconds:02} passed, 01:00 to go\r")
    assert printed == [
        f"{seconds} of 130 runs done, {seconds} %, 00:{seconds:02} passed, 01:00 to go" for seconds in (5, 65, 125)
    ]


def test_clearing_the_bar_prints_nothing(clock: list[float]) -> None:
    printed: list[str] = []
    lines = progress.Lines(printed.append)
    clock[0] = 100.0
    for text in ("\r", "\r          \r", "\x1b[A", "\n"):
        lines.write(text)
    assert printed == []


def test_a_bar_without_a_terminal_is_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(progress, "say", printed.append)
    monkeypatch.setattr(progress, "FIRST_MESSAGE", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.delenv(progress._PIPE, raising=False)
    with progress.progress_bar(4) as bar:
        bar.set_description_str("1 of 4 runs done")
    assert printed == ["1 of 4 runs done, 0 %, 00:00 passed, ? to go"] or printed[0].startswith(", 0 %")
    assert not sys.stderr.getvalue()


def test_the_bar_of_a_child_is_a_line_of_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(progress, "say", printed.append)
    monkeypatch.setattr(progress, "FIRST_MESSAGE", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    code = f"import os; os.write(os.open(os.environ[{progress._PIPE!r}], os.O_WRONLY), b'\\r2 of 4 done  50%|## | x')"
    with progress.shown_here():
        subprocess.run([sys.executable, "-c", code], check=True)
        end = time.monotonic() + 20
        while not printed and time.monotonic() < end:
            time.sleep(0.01)
    assert printed == ["2 of 4 done, 50 %, x"] and progress._PIPE not in os.environ
