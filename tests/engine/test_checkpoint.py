"""Checkpoints on disk: the last good one is always there."""

import errno
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors import SafetensorError
from short import ALONE, same

import lkd
from lkd import Recipe
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.trainer import Trainer
from lkd.runs.store import Store


def state(step: int) -> dict[str, object]:
    return {"step": step, "weights": torch.full((1000,), float(step))}


def test_the_last_two_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.load() is None
    for step in (9, 10, 11, 100):
        checkpoints.save(step, state(step))
    assert [path.name.partition("-")[0] for path in sorted(checkpoints.folder.iterdir())] == ["000000011", "000000100"]
    found = checkpoints.load()
    assert found is not None and found["step"] == 100 and torch.equal(found["weights"], torch.full((1000,), 100.0))
    checkpoints.clear()
    assert checkpoints.load() is None and not checkpoints.folder.exists()


def test_one_that_was_just_written_stays_whatever_lay_there(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (880, 900, 10):
        checkpoints.save(step, state(step))
    assert [path.name[:9] for path in sorted(tmp_path.iterdir())] == ["000000010", "000000900"]


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_one_falls_back_to_the_one_before(damage: str, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, state(step))
    newest = max(tmp_path.iterdir())
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content[:-100] if damage == "cut" else content)
    found = checkpoints.load()
    assert found is not None and found["step"] == 1


def test_a_checkpoint_of_hostile_origin_runs_nothing(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "executed").touch, ())

    Checkpoints(tmp_path / "run").save(1, {"state": Hostile()})
    with pytest.raises(Exception, match=r"[Ww]eights.?only"):
        Checkpoints(tmp_path / "run").load()
    assert not (tmp_path / "executed").exists()


FULL = """
import resource, sys
from lkd import Recipe
from lkd.engine import Options
from lkd.engine.run import execute
from lkd.runs.store import Store

def fill(images):
    if fill.steps == 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    fill.steps += 1
fill.steps = 0
recipe = Recipe(data="digits", student="mini_resnet", train_images=128, batch_size=32, epochs=2)
execute(recipe, Store(sys.argv[1]), {}, options=Options(checkpoint_seconds=0), progress=fill)
"""


@pytest.mark.slow
def test_a_full_disk_stops_the_run_clearly_and_the_last_good_state_stays(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True)
    assert "OSError: the checkpoint of step 4 could not be written" in done.stderr, done.stderr
    assert "make room, and run again" in done.stderr
    (folder,) = (tmp_path / "checkpoints").iterdir()
    found = Checkpoints(folder).load()
    assert found is not None and found["step"] == 3
    assert len(list(folder.iterdir())) == 2
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_a_checkpoint_is_written_into_space_that_was_taken_ahead(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.reserve(4000)
        taken = checkpoints.reserved.stat()
        assert taken.st_blocks * 512 >= 4000
        checkpoints.save(1, state(1))
        assert next(checkpoints.folder.glob("*-*.pt")).stat().st_ino == taken.st_ino
        assert checkpoints.reserved.stat().st_blocks * 512 >= 4000, "none is left for the next one"
    assert [path.name[:9] for path in checkpoints.folder.iterdir()] == ["000000001"]


def test_the_remedy_fits_what_hinders_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OSError, match=rf"could not be written to {folder} .*: move {tmp_path}/file away, and run"):
            Checkpoints(folder).save(1, state(1))
        with pytest.raises(OSError, match=rf"{folder} could not be created .*: move {tmp_path}/file away, and run"):
            Checkpoints(folder).reserve(1000)
    taken = Checkpoints(tmp_path / "run")
    taken.reserved.mkdir(parents=True)
    with pytest.raises(
        OSError, match=rf"{taken.reserved} cannot be made \(Is a directory\): move {taken.reserved} away"
    ):
        taken.reserve(1000)
    with pytest.raises(OSError, match=rf"could not be written .*: move {taken.reserved} away, and run again"):
        taken.save(1, state(1))
    for number, remedy in ((errno.ENOSPC, "make room"), (errno.EROFS, "allow this user"), (errno.EIO, "remove the")):
        monkeypatch.setattr("torch.save", Mock(side_effect=OSError(number, "why")))
        with pytest.raises(OSError, match=rf"why\): {remedy}"):
            Checkpoints(tmp_path / "other").save(1, state(1))


def test_space_taken_ahead_is_given_back_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.reserve(4000)
        raise KeyboardInterrupt
    assert not checkpoints.folder.exists()


def test_the_state_stays_when_there_is_no_room_for_the_checkpoint_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no room")

    checkpoints = Checkpoints(tmp_path)
    checkpoints.reserve(4000)
    monkeypatch.setattr("lkd.engine.checkpoint.reserve", full)
    with pytest.raises(OSError, match="no room, and run again; the checkpoint of step 3 is kept"):
        checkpoints.save(3, state(3))
    found = checkpoints.load()
    assert found is not None and found["step"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [ALONE, replace(ALONE, stop_top1=0.0, batch_size=2)], ids=["to the end", "stopped"])
def test_a_full_disk_at_the_end_keeps_the_finished_training(
    recipe: Recipe, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr("lkd.runs.store.save_model", full)
        words = rf"/runs/{recipe.run_id} could not be written .*No space left.*: make room, and run again; .* is kept"
        with pytest.raises(OSError, match=words):
            lkd.run(recipe, store=store)
    assert store.find(recipe) is None
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "take_step", lambda *_: pytest.fail("it trained again"))
        finished = lkd.run(recipe, store=store)
    assert same(finished, lkd.run(recipe, store=Store(store.folder / "undisturbed")))
    assert not list(store.folder.glob("checkpoints/*"))
