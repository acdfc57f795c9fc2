"""Locks are released when their process ends, and refused on file systems without flock."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lkd.cli import machine as doctor
from lkd.runs.store import Store
from lkd.util.locks import is_held, lock_at, try_lock

NO_FLOCK = pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])


def without_flock(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@NO_FLOCK
def test_a_store_without_flock_is_refused_and_no_file_stands_for_a_lock(
    number: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_flock(monkeypatch, number)
    with pytest.raises(OSError, match=rf"/store/locks cannot be locked \({os.strerror(number)}\): .* LKD_HOME"):
        store.lock("3f2a")
    assert not list((store.folder / "locks").iterdir())


def test_the_doctor_tries_to_lock_a_file_of_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "with"))
    assert doctor.home_status()["locks"] is True
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "without"))
    without_flock(monkeypatch, errno.ENOSYS)
    assert doctor.home_status()["locks"] is False


def test_a_lock_is_held_once_and_is_free_when_its_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    assert not is_held(path)
    opened = f"open({str(path)!r}, 'a')"
    code = f"from lkd.util.locks import try_lock; file = {opened}; print(try_lock(file), flush=True); input()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "True\n"
    with path.open("a") as file:
        assert is_held(path) and not try_lock(file)
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
        assert not is_held(path) and try_lock(file)


def test_a_process_may_hold_a_lock_twice(tmp_path: Path) -> None:
    with lock_at(tmp_path / "a.lock"), lock_at(tmp_path / "a.lock"):
        assert is_held(tmp_path / "a.lock")
    assert not is_held(tmp_path / "a.lock")
