"""Waits are reported with the holder's name, and time out."""

import multiprocessing
import os
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from filelock import FileLock

from lkd.engine import accelerators
from lkd.engine.accelerators import launched_processes, refuse_launcher
from lkd.util import progress, waiting
from lkd.util.waiting import Patience, held

LAUNCHER = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29541"}


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in LAUNCHER.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def hold(path: Path, ready: Event, done: Event) -> None:
    with FileLock(path):
        ready.set()
        done.wait()


def test_a_wait_is_reported_after_seconds_and_then_every_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0, *map(float, range(121))]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: clock.pop(0))
    patience = Patience(seconds=120)
    for _ in range(120):
        patience("a friend")
    assert capsys.readouterr().err.splitlines() == [
        "lkd: waits for a friend (5 s so far, gives up after 120 s)",
        "lkd: waits for a friend (65 s so far, gives up after 120 s)",
    ]
    with pytest.raises(TimeoutError, match="gave up after 120 s of waiting for a friend"):
        patience("a friend")


def test_the_process_that_holds_a_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path / "lock", ready, done))
    holder.start()
    ready.wait()
    named = f"process {holder.pid}" if Path("/proc/locks").is_file() else "another process"
    try:
        with pytest.raises(TimeoutError, match=f"waiting for {named}, which trains run 3f2a"):
            with held(FileLock(tmp_path / "lock"), "trains run 3f2a", seconds=0.1):
                pass
    finally:
        done.set()
        holder.join()
    with held(FileLock(tmp_path / "lock"), "trains run 3f2a", seconds=0.1):
        pass


def test_a_lock_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(OSError, match=r"/lock could not be written \(Is a directory\)"):
        with held(FileLock(tmp_path / "lock"), "trains run 3f2a"):
            pass


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"RANK": ""}, "WORLD_SIZE=2, .* but no RANK: start processes with .* run unset WORLD_SIZE LOCAL_RANK MASTER_"),
        ({"MASTER_PORT": ""}, "but no MASTER_PORT"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two must be a whole number"),
        ({"RANK": "2"}, "RANK=2 is not below WORLD_SIZE=2"),
        ({"ACCELERATE_USE_FSDP": "true"}, "ACCELERATE_USE_FSDP=true .*: run unset ACCELERATE_USE_FSDP"),
    ],
)
def test_variables_of_a_launcher_that_do_not_fit_are_named(
    values: dict[str, str], words: str, launcher: pytest.MonkeyPatch
) -> None:
    assert launched_processes() == 2
    for name, value in values.items():
        launcher.setenv(name, value)
    with pytest.raises(ValueError, match=words):
        launched_processes()


def test_a_local_rank_alone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ValueError, match=r"has LOCAL_RANK=0, but no WORLD_SIZE, RANK, .* run unset LOCAL_RANK"):
        launched_processes()
    monkeypatch.setenv("LOCAL_RANK", "-1")
    assert launched_processes() == 1


def test_variables_that_announce_one_process_are_no_launcher(launcher: pytest.MonkeyPatch) -> None:
    launcher.setenv("WORLD_SIZE", "1")
    assert launched_processes() == 1
    launcher.delenv("WORLD_SIZE")
    launcher.delenv("LOCAL_RANK")
    assert launched_processes() == 1


@pytest.mark.parametrize("rank", ["0", "1"])
def test_missing_processes_are_named_after_a_timeout(rank: str, launcher: pytest.MonkeyPatch) -> None:
    launcher.setenv("RANK", rank)
    launcher.setattr(accelerators, "_JOIN_SECONDS", 0.5)
    with pytest.raises(
        TimeoutError, match=f"gave up .* WORLD_SIZE=2, RANK={rank}, .* left over .*unset WORLD_SIZE RANK"
    ):
        with accelerators._all_joined():
            pass


@pytest.mark.usefixtures("launcher")
def test_a_launcher_does_not_start_a_study() -> None:
    with pytest.raises(ValueError, match=r"a study starts its own processes.*run unset WORLD_SIZE"):
        refuse_launcher("a study")


def test_progress_is_not_written_to_a_pipe_that_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv(progress._PIPE, str(tmp_path / "pipe"))
    with progress.progress_bar(3) as bar:
        bar.update(3)
