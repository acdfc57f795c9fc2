"""Every file that lkd reads, damaged in each way: one error that names it and the remedy."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_runs import RECIPE, saved

from lkd.cli.run_recipe import _recipe_in
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.tape import Tape
from lkd.profiles import Profile
from lkd.runs import published as records
from lkd.runs.catalogue import entry
from lkd.runs.published import publish, unpacked
from lkd.runs.store import Store
from lkd.study.measure import measured, place
from lkd.util.progress import Tally, read_tally


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: max(1, len(content) - 10)])


def foreign(path: Path) -> None:
    path.write_bytes(b"[]")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: list[Callable[[Path], None]] = [remove, empty, cut, foreign, folder]
READ: dict[str, Callable[[Store], Any]] = {
    "metrics.json": lambda store: store.find(RECIPE),
    "student.json": lambda store: store.find(RECIPE),
    "recipe.json": lambda store: entry(store.path(RECIPE)),
    "provenance.json": lambda store: store.find(RECIPE).provenance,
    "history.csv": lambda store: store.find(RECIPE).history,
    "student.safetensors": lambda store: store.find(RECIPE).student,
    "masks.safetensors": lambda store: store.find(RECIPE).masks,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_of_a_run_is_named_with_the_remedy(
    name: str, damage: Callable[[Path], None], store: Store
) -> None:
    path = saved(store) / name
    READ[name](store)
    damage(path)
    with pytest.raises((OSError, ValueError), match=rf"/{name} .*: remove .*/{RECIPE.run_id}, and ") as caught:
        READ[name](store)
    assert type(caught.value) in (OSError, ValueError, FileNotFoundError) and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["manifest.json", "records.bin"])
def test_a_damaged_tape_is_named_with_the_remedy(name: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    tape = Tape.make(tmp_path / "tape", epochs=1, samples=4, classes=10).folder
    damage(tape / name)
    with pytest.raises((OSError, ValueError), match=rf"/{name} .*: remove .*/tape, and repeat the command"):
        Tape(tape)


@pytest.mark.parametrize("damage", [empty, cut, foreign, folder])
def test_a_damaged_measurement_is_named_with_the_remedy(damage: Callable[[Path], None], store: Store) -> None:
    saved(store)
    run = store.find(RECIPE)
    assert run is not None
    measured(run, "sum", lambda run: {"x": np.ones(9)})
    damage(place(run, "sum"))
    with pytest.raises((OSError, ValueError), match=r"/sum-\w+\.npz .*: remove it, and it is measured again"):
        measured(run, "sum", lambda run: {"x": np.ones(9)})


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_of_records_is_named_with_the_remedy(
    damage: Callable[[Path], None], store: Store, tmp_path: Path
) -> None:
    saved(store)
    publish([RECIPE], store, tmp_path / "small.zip")
    damage(tmp_path / "small.zip")
    with pytest.raises((OSError, ValueError), match=r"/small\.zip .*: take the file from the repository again"):
        unpacked(tmp_path / "small.zip")
    with pytest.raises((OSError, ValueError), match=r"/small\.zip .*: take the file from the repository again"):
        records.ids(tmp_path / "small.zip")


def test_a_record_that_was_removed_is_unpacked_again(store: Store, tmp_path: Path) -> None:
    saved(store)
    publish([RECIPE], store, tmp_path / "small.zip")
    shutil.rmtree(unpacked(tmp_path / "small.zip").path(RECIPE))
    assert unpacked(tmp_path / "small.zip").find(RECIPE) is not None


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_recipe_is_named_with_the_remedy(damage: Callable[[Path], None], store: Store) -> None:
    path = saved(store) / "recipe.json"
    damage(path)
    with pytest.raises((OSError, ValueError), match=r"/recipe\.json .*: give the recipe.json of a run"):
        _recipe_in(path)


def test_a_profile_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "mine.yaml").touch()
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(OSError, match=r"/mine\.yaml cannot be read \(Permission denied\)"):
        Profile.load(str(tmp_path / "mine.yaml"))


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(1, {"weights": torch.ones(9)})
    cut(next(tmp_path.iterdir()))
    with pytest.warns(UserWarning, match=r"000000001-\w+\.pt is damaged: training resumes from the one before it"):
        assert Checkpoints(tmp_path).load() is None


def test_progress_that_cannot_be_written_or_read_stops_no_work(tmp_path: Path) -> None:
    (tmp_path / "count").mkdir()
    Tally(tmp_path / "count", seconds=0)(3)
    (tmp_path / "half").write_text("")
    assert read_tally(tmp_path / "half") == 0


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "locks").touch()
    with pytest.raises(OSError, match=r"/locks could not be written \(File exists\): remove what is in its place"):
        Store(tmp_path).lock("a")
    (tmp_path / "runs").touch()
    with pytest.raises(OSError, match=rf"/runs/{RECIPE.run_id} could not be written \(.*\): make room"):
        saved(Store(tmp_path))
