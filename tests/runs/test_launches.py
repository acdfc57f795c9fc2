"""Launch files are private, and their locks identify the processes to terminate."""

import fcntl
import os
import signal
from pathlib import Path

import psutil
import pytest
from short import ALONE, wait_until
from traps import Trap

import lkd
from lkd.engine import launch
from lkd.engine.launch_rank import read_task
from lkd.runs.launches import DIGEST, Launch, ended_launches, legacy_files, open_locked
from lkd.runs.store import Store
from lkd.util import processes as ending

pytestmark = pytest.mark.usefixtures("temporary")

LAUNCHER = """
import subprocess, sys, time

code = "import sys, time; from pathlib import Path; from lkd.runs.launches import Launch; "
code += "file = Launch(Path(sys.argv[1])).register_rank(int(sys.argv[2])); time.sleep(60)"
for rank in "01":
    subprocess.Popen([sys.executable, "-c", code, sys.argv[-1], rank], start_new_session=True)
time.sleep(60)
"""
"""Starts two ranks that sleep, as Accelerate's launcher starts them: in sessions of their own."""


@pytest.fixture
def asleep(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """A launch of a launcher and two ranks, which sleep."""
    (tmp_path / "sleeping.py").write_text(LAUNCHER)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(launch, "_launcher", lambda *_: ["sleeping"])
    monkeypatch.setattr(ending, "_GRACE_SECONDS", 0.5)
    files = Launch.of(store.folder, ALONE.run_id)
    launch._start(files, 2, "")
    wait_until(lambda: len(files.processes()) == 3)
    return files


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


# The folder ---------------------------------------------------------------------------------------------------------


def test_the_folder_is_made_for_this_user_alone(temporary: Path) -> None:
    files = Launch.of(Path("/store"), "3f2a")
    assert files.folder.parent.parent == temporary
    assert {folder.stat().st_mode & 0o777 for folder in (files.folder, files.folder.parent)} == {0o700}
    assert Launch.of(Path("/other"), "3f2a").folder != files.folder, "runs of two stores share a launch"


# The task -----------------------------------------------------------------------------------------------------------


def test_only_the_task_of_the_launcher_is_loaded(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, objects = Launch.of(store.folder, ALONE.run_id), {"memory:1": 1}
    digest = launch._write_task(files, ALONE, store, objects, True, lkd.Options(tape=True))
    monkeypatch.setenv(DIGEST, digest)
    recipe, place, sent, objectives, resume, options = read_task(files)
    assert (recipe, place.folder, sent, objectives) == (ALONE, store.folder, objects, {})
    assert (resume, options) == (True, lkd.Options(tape=True))
    launch._write_task(files, ALONE, store, {"memory:1": Trap(tmp_path / "sprung")}, True, lkd.Options())
    for given in (digest, "", None):
        monkeypatch.setenv(DIGEST, given) if given is not None else monkeypatch.delenv(DIGEST)
        with pytest.raises(ValueError, match=r"task.pt is damaged or no task of this launch .*SHA-256.*start the run"):
            read_task(files)
    assert not (tmp_path / "sprung").exists()


# The processes ------------------------------------------------------------------------------------------------------


def test_an_interrupt_ends_launcher_and_ranks_also_one_that_is_stopped(
    asleep: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = [psutil.Process(number) for number in asleep.processes()]
    processes[-1].suspend()
    wait_until(lambda: processes[-1].status() == psutil.STATUS_STOPPED)

    def interrupt(_: float) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(ending, "_GRACE_SECONDS", 0.5)
        raise KeyboardInterrupt

    monkeypatch.setattr(launch.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        launch._follow(asleep, ALONE, 1)
    assert asleep.processes() == [] and living(processes) == []


def test_ranks_end_with_a_launcher_that_is_killed(asleep: Launch) -> None:
    processes = [psutil.Process(number) for number in asleep.processes()]
    folder = os.open(asleep.folder, os.O_RDONLY)
    with pytest.raises(BlockingIOError):  # systemd-tmpfiles removes what is old in a folder that it can lock
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(folder)
    processes[0].kill()
    wait_until(lambda: not living(processes), seconds=5)


def test_a_stopped_rank_of_a_killed_launcher_is_killed_by_whoever_waits(asleep: Launch) -> None:
    processes = [psutil.Process(number) for number in asleep.processes()]
    processes[-1].suspend()
    processes[0].send_signal(signal.SIGKILL)
    launch._follow(asleep, ALONE, 1)
    assert living(processes) == []


def test_an_id_that_a_dead_process_left_is_not_signalled(store: Store) -> None:
    files = Launch.of(store.folder, ALONE.run_id)
    with open_locked(files.launcher) as file:
        file.write(str(os.getpid()))
    assert files.processes() == []


def test_launches_that_have_ended_are_found(store: Store) -> None:
    files = Launch.of(store.folder, ALONE.run_id)
    assert list(ended_launches(store.folder)) == [(ALONE.run_id, files.folder)]
    assert list(ended_launches(store.folder / "other")) == []
    with open_locked(files.launcher):
        assert list(ended_launches(store.folder)) == []


def test_files_of_launches_in_a_store_are_found_unless_a_process_of_theirs_lives(store: Store) -> None:
    folder = store.folder / "launches"
    folder.mkdir(parents=True)
    left, alive = folder / "3f2a.objects.pt", folder / "4e1b.alive-0"
    left.touch()
    with open_locked(alive):
        assert list(legacy_files(store.folder)) == [("3f2a", left)]
    assert dict(legacy_files(store.folder)) == {"3f2a": left, "4e1b": alive}
