"""Unused files are found and removed; files in use, and interrupted runs, are kept."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import timm
from filelock import FileLock

from lkd import Recipe
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.tape import Tape
from lkd.planning.work import recorded_tape_keys
from lkd.runs.prune import CHECKPOINTS, LEFTOVER, TAPE, TEMPORARY, find_unused, remove
from lkd.runs.store import Store
from lkd.util.temporary import folders_left, temporary_folder

RUN = Recipe(data="digits", student="mini_resnet", teacher=Recipe(data="digits", student="mini_vit"), objective="kd")
NOT_RUN = replace(RUN, seed=1)


@pytest.fixture(autouse=True)
def tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty TMPDIR."""
    folder = tmp_path / "tmpdir"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with one finished run."""
    student = timm.create_model("mini_resnet", in_chans=1, num_classes=10)
    store.save(RUN, student, {"in_chans": 1, "num_classes": 10}, {}, pd.DataFrame({"epoch": [1]}), {})
    return store


def held(store: Store, name: str) -> FileLock:
    """A lock of the store as another process holds it."""
    (store.folder / "locks").mkdir(exist_ok=True)
    return FileLock(store.folder / "locks" / f"{name}.lock")


def checkpoint(store: Store, recipe: Recipe) -> Path:
    folder = store.folder / "checkpoints" / recipe.run_id
    Checkpoints(folder).save(5, {"step": 5})
    return folder


def tape(store: Store, recipe: Recipe, name: str = "weights-stream-seen-no-all-0") -> Path:
    folder = store.folder / "tapes" / name
    return Tape.make(folder, epochs=1, samples=4, classes=10, about={"recipe": recipe.to_dict()}).folder


def found(store: Store) -> dict[Path, str]:
    return {waste.path: waste.kind for waste in find_unused(store.folder).found}


def test_launch_files_of_earlier_versions_are_removed(filled: Store) -> None:
    left = filled.folder / "launches" / f"{NOT_RUN.run_id}.objects.pt"
    left.parent.mkdir()
    left.write_bytes(b"12345")
    assert found(filled) == {left: LEFTOVER}
    remove(filled.folder, find_unused(filled.folder).found)
    assert not left.exists()


def test_a_store_in_order_has_nothing_to_remove(filled: Store) -> None:
    assert found(filled) == {}


def test_leftovers_of_kills_are_found_and_removed(filled: Store) -> None:
    left = [
        filled.folder / "runs" / f".{NOT_RUN.run_id}.a1b2",
        filled.folder / "tapes" / f".some-tape.{os.getpid()}",
        filled.folder / "runs" / f".{RUN.run_id}.removed",
    ]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"123")
    started = checkpoint(filled, NOT_RUN)
    (started / ".000000009.pt.x.pt").write_bytes(b"123")
    assert found(filled) == dict.fromkeys([*left, started / ".000000009.pt.x.pt"], LEFTOVER)
    assert sum(waste.bytes for waste in find_unused(filled.folder).found) == 12
    remove(filled.folder, find_unused(filled.folder).found)
    assert found(filled) == {} and filled.find(RUN) is not None
    assert Checkpoints(started).load() == {"step": 5}


def test_checkpoints_of_a_finished_run_are_removed(filled: Store) -> None:
    done, half = checkpoint(filled, RUN), checkpoint(filled, NOT_RUN)
    assert found(filled) == {done: CHECKPOINTS}
    remove(filled.folder, find_unused(filled.folder).found)
    assert not done.exists() and half.exists()


def test_a_tape_is_removed_when_its_run_is_finished_and_no_work_remains(filled: Store) -> None:
    read, unread = tape(filled, RUN), tape(filled, NOT_RUN, "other-stream-seen-no-all-0")
    assert found(filled) == {read: TAPE}
    with held(filled, "0123456789abcdef"):
        assert found(filled) == {}
    half = checkpoint(filled, NOT_RUN)
    assert found(filled) == {}
    Checkpoints(half).clear()
    remove(filled.folder, find_unused(filled.folder).found)
    assert not read.exists() and json.loads((unread / "manifest.json").read_text())


def test_files_in_use_are_neither_found_nor_removed(filled: Store) -> None:
    done = checkpoint(filled, RUN)
    (filled.folder / "runs" / f".{NOT_RUN.run_id}.a1b2").mkdir()
    before = find_unused(filled.folder).found
    assert len(before) == 2
    with held(filled, RUN.run_id), held(filled, NOT_RUN.run_id):
        assert found(filled) == {}
        assert remove(filled.folder, before) == []
    assert done.exists()


def test_a_removal_that_is_killed_leaves_no_half_run(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from lkd.runs.catalogue import entries
    from lkd.runs.prune import removable_runs

    chosen = removable_runs(filled.folder, entries(filled.folder).runs)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lkd.runs.prune.shutil.rmtree", interrupted)
        remove(filled.folder, chosen)
    assert filled.find(RUN) is None and entries(filled.folder).runs == []
    assert list(found(filled).values()) == [LEFTOVER]


def interrupted(path: Path) -> None:
    raise KeyboardInterrupt


def aged(path: Path, seconds: float) -> Path:
    """A file or folder that was last written to some time ago."""
    os.utime(path, (time.time() - seconds,) * 2)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "chapters/.erf.ipynb.a1b2c3d4.ipynb",
        "claims/.small-1.json.tmp-0a1b2c3d.json",
        "runs/{run}/measured/.erf-1.npz.tmp-0a1b2c3d.npz",
        ".known.json.x_y_z_0_.json",
    ],
)
def test_a_temporary_file_goes_a_day_after_it_was_written_to(filled: Store, name: str) -> None:
    path = filled.folder / name.format(run=RUN.run_id)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"12345")
    aged(path, 23 * 3600)
    assert found(filled) == {}
    aged(path, 25 * 3600)
    (waste,) = find_unused(filled.folder).found
    assert (waste.path, waste.kind, waste.bytes) == (path, TEMPORARY, 5)
    remove(filled.folder, [waste])
    assert not path.exists() and filled.find(RUN) is not None


def test_hidden_files_of_others_and_files_of_the_user_stay(filled: Store) -> None:
    for name in (
        "chapters/.DS_Store",
        "runs/.DS_Store",
        "tapes/.DS_Store",
        "chapters/.my.settings.txt",
        "data/pets/.a.12345678",
    ):
        path = filled.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("")
        aged(path, 1e7)
    assert found(filled) == {}


def test_a_folder_in_tmpdir_goes_once_its_process_has_ended(filled: Store, tmpdir: Path) -> None:
    with temporary_folder() as used:
        aged(used, 2 * 3600)
        left = tmpdir / "lkd-tmp-abcdefgh"
        left.mkdir()
        for name in ("others", "lkd-0@host", "lkd-tmp-of-a-user"):
            (tmpdir / name).mkdir()
            aged(tmpdir / name, 1e6)
        (tmpdir / "lkd-tmp-12345678").symlink_to(tmpdir / "others")
        assert found(filled) == {}
        aged(left, 2 * 3600)
        assert found(filled) == {left: TEMPORARY}
        remove(filled.folder, find_unused(filled.folder).found)
        assert used.is_dir() and not left.exists()


def test_a_temporary_file_that_is_written_to_meanwhile_stays(filled: Store) -> None:
    path = filled.folder / ".known.json.a1b2c3d4.json"
    path.write_text("")
    aged(path, 1e6)
    before = find_unused(filled.folder).found
    aged(path, 0)
    assert len(before) == 1 and remove(filled.folder, before) == [] and path.exists()


@pytest.mark.parametrize(("name", "inner"), [("tmp-01234567", ""), ("before", ""), ("a1b2c3d4", "replaced")])
def test_a_whole_run_under_a_temporary_name_stays_until_the_run_is_in_its_place(
    filled: Store, name: str, inner: str
) -> None:
    place = filled.path(RUN)
    aside = place.with_name(f".{RUN.run_id}.{name}")
    shutil.copytree(place, aside / inner)
    before = find_unused(filled.folder).found
    assert [waste.path for waste in before] == [aside]
    shutil.rmtree(place)
    assert remove(filled.folder, before) == []
    there, (fault,) = find_unused(filled.folder)
    assert there == [] and fault == f"{aside / inner} is a complete run left by a kill: rename it to {place}"
    with held(filled, RUN.run_id):
        assert find_unused(filled.folder) == ([], [])
    (aside / inner / "student.safetensors").unlink()
    assert found(filled) == {aside: LEFTOVER}


def test_checkpoints_of_a_damaged_run_stay_and_so_does_a_whole_run_beside_it(filled: Store) -> None:
    checkpoint(filled, RUN)
    aside = filled.path(RUN).with_name(f".{RUN.run_id}.before")
    shutil.copytree(filled.path(RUN), aside)
    (filled.path(RUN) / "metrics.json").write_text("")
    there, faults = find_unused(filled.folder)
    assert there == [] and len(faults) == 2


def test_a_damaged_tape_is_named_and_the_others_are_found(filled: Store) -> None:
    whole, broken, other = tape(filled, RUN), tape(filled, RUN, "broken"), filled.folder / "tapes" / "notes.txt"
    (broken / "manifest.json").write_text('{"recipe": 3}')
    (tape(filled, RUN, "lacks") / "manifest.json").unlink()
    other.write_text("")
    there, faults = find_unused(filled.folder)
    assert [waste.path for waste in there] == [whole]
    assert [fault.partition(" is ")[0] for fault in faults] == [
        str(broken / "manifest.json"), str(filled.folder / "tapes" / "lacks" / "manifest.json"), str(other)
    ]  # fmt: skip


def test_finding_unused_files_writes_nothing(filled: Store) -> None:
    checkpoint(filled, RUN)
    before = {path: path.stat().st_mtime_ns for path in filled.folder.rglob("*")}
    assert len(find_unused(filled.folder).found) == 1
    assert {path: path.stat().st_mtime_ns for path in filled.folder.rglob("*")} == before


def test_a_folder_in_tmpdir_is_used_until_its_process_is_killed(tmpdir: Path) -> None:
    script = (
        "from lkd.util.temporary import temporary_folder\nwith temporary_folder() as f: print(f, flush=True); input()"
    )
    environment = {**os.environ, "TMPDIR": str(tmpdir)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, text=True, **pipes) as process:
        folder = aged(Path(process.stdout.readline().strip()), 2 * 3600)
        assert folder.parent == tmpdir and folders_left() == []
        process.kill()
    assert folders_left() == [folder]


def test_a_damaged_tape_is_no_help_to_a_plan(filled: Store) -> None:
    (tape(filled, RUN) / "manifest.json").write_text("")
    with pytest.warns(UserWarning, match=r"manifest\.json is damaged or no JSON object"):
        assert list(recorded_tape_keys(filled)) == []
