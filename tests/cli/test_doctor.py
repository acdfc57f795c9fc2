"""`lkd doctor`: the report on this machine, and the advice."""

import errno
import importlib.metadata
import json
import os
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from lkd.cli import machine as doctor
from lkd.data.inspection import KnownData


@pytest.fixture(scope="module")
def found() -> dict:
    return doctor.examine_machine()


def test_what_is_found_is_this_machine(found: dict, home: Path) -> None:
    assert found["packages"]["lkd"]["torch"] == importlib.metadata.version("torch")
    assert found["packages"]["lkd"].keys() >= {"timm", "accelerate", "typer"}
    assert found["home"]["path"] == os.environ["LKD_HOME"] and 0 < found["home"]["free"] < 1e18
    assert found["torch"]["threads"] == torch.get_num_threads()
    assert found["processor"]["usable cores"] <= found["processor"]["logical cores"] == os.cpu_count()
    assert found["processor"]["cores together"] > 0
    assert 2**28 < found["processor"]["memory"] < 2**45
    json.dumps(found, allow_nan=False)


def test_the_data_sets_of_this_machine_are_accounted_for_in_six_lines(
    found: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found["data"][0] == "digits: 10 classes; train 1,297, val 250, test 250 images" and len(found["data"]) <= 6
    rows = [KnownData(f"folder:{number}", "", account=str(number)) for number in range(9)]
    monkeypatch.setattr(doctor, "list_data_sets", lambda: rows)
    assert doctor.data_sets() == ["0", "1", "2", "3", "4", "4 more: see `lkd data list`"]


def test_speed_is_measured_and_a_student_is_faster_than_a_teacher(found: dict) -> None:
    teacher, student = found["speed"]["mini_slak"], found["speed"]["mini_resnet"]
    assert 0 < teacher["forward"] < student["forward"] and 0 < teacher["training"] < student["training"]


def test_nothing_is_left_in_the_home(home: Path) -> None:
    before = set(home.rglob("*"))
    doctor.home_status()
    assert set(home.rglob("*")) == before


def test_a_home_that_can_only_be_read_is_looked_at_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("lkd.util.files.tempfile.TemporaryFile", refuse)
    found = doctor.home_status()
    assert found["written a second"] is None and "Read-only file system): set LKD_HOME" in found["fault"]


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["torch>=2", 'nothing-of-that-name>=1; extra == "book"', "neither.this; extra == 'dev'"]
    monkeypatch.setattr(doctor, "requires", lambda _: wanted)
    found = doctor.packages()
    assert found["lkd"].keys() == {"torch"} and found["lkd"]["torch"]
    assert found["book"] == {"nothing-of-that-name": None} and found["dev"] == {"neither.this": None}


FAST = {
    "processor": {
        "instructions": "AVX512",
        "hyper-threads": False,
        "usable cores": 8,
        "logical cores": 8,
        "cores together": 7.5,
    },
    "torch": {"CUDA": "13.0", "GPUs": [{"name": "H100", "memory": 8e10}], "oneDNN": True, "threads": 8},
    "home": {"fault": None, "locks": True, "written a second": 1e9, "free": 1e12, "shared memory": 1e10},
    "launcher": {},
    "packages": {"lkd": {"torch": "2.9"}},
    "outdated": [],
}


@pytest.mark.parametrize(
    ("part", "worse", "words"),
    [
        ("processor", {"instructions": "DEFAULT"}, "no AVX2"),
        ("processor", {"hyper-threads": True}, "hyper-threads"),
        ("processor", {"cores together": 4.1}, "8 cores do 4.1 times the work of one"),
        ("processor", {"usable cores": 2}, "may use 2 of 8 cores"),
        ("torch", {"GPUs": []}, "built for CUDA 13.0 and sees no GPU"),
        ("torch", {"GPUs": [], "CUDA": None}, "no GPU"),
        ("torch", {"oneDNN": False}, "without oneDNN"),
        ("torch", {"threads": 1}, "torch uses 1 of 8 cores"),
        (
            "home",
            {"locks": False},
            "without flock, no run can start: move it to a file system with flock (lkd's home: set LKD_HOME)",
        ),
        ("home", {"written a second": 1e7}, "takes 10 MB/s"),
        ("home", {"written a second": None, "fault": "lkd cannot write to its home"}, "cannot write to its home"),
        ("home", {"free": 2e9}, "has 2.0 GB free: `lkd store prune`"),
        ("home", {"shared memory": 6.4e7}, "/dev/shm has 64 MB free: workers that read images need more"),
        ("launcher", {"WORLD_SIZE": "2", "RANK": "0"}, "run unset WORLD_SIZE RANK"),
        ("packages", {"book": {"papermill": None}}, "papermill missing: pip install 'lkd[book]'"),
    ],
)
def test_what_would_be_slow_is_said_and_nothing_else(
    part: str, worse: dict, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert list(doctor.advice(FAST)) == []
    told = list(doctor.advice({**FAST, part: {**FAST[part], **worse}}))
    assert len(told) == 1 and words in told[0]


def test_a_package_of_another_version_than_needed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["torch>=99", "numpy>=1", 'pillow>=10,<11; extra == "book"', "nothing-of-that-name>=1"]
    monkeypatch.setattr(doctor, "requires", lambda _: wanted)
    monkeypatch.setattr(
        doctor, "_version", lambda name: {"torch": "2.14.1", "numpy": "2.3", "pillow": "12.3"}.get(name)
    )
    found = doctor.outdated()
    assert found == ["torch 2.14.1 is installed, lkd needs >=99", "pillow 12.3 is installed, lkd needs <11,>=10"]
    assert list(doctor.advice({**FAST, "outdated": found[:1]})) == [f"{found[0]}: pip install -U 'lkd'"]


def test_a_checkout_that_is_not_installed_is_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", missing)
    assert doctor.packages() == {} and doctor.outdated() == []
    (told,) = doctor.advice({**FAST, "packages": {}})
    assert told.startswith("lkd is not installed, only on the path")
