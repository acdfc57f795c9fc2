"""What has no use any more is found and removed; what is in use, or may be gone on with, stays."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import timm
from filelock import FileLock

from lkd import Recipe
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.tape import Tape
from lkd.housekeeping import CHECKPOINTS, LEFTOVER, TAPE, remove, useless
from lkd.store import Store

RUN = Recipe(data="digits", student="mini_resnet", teacher=Recipe(data="digits", student="mini_vit"), objective="kd")
NOT_RUN = replace(RUN, seed=1)


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
    return {waste.path: waste.kind for waste in useless(store)}


def test_what_launches_of_earlier_versions_left_is_removed(filled: Store) -> None:
    left = filled.folder / "launches" / f"{NOT_RUN.run_id}.objects.pt"
    left.parent.mkdir()
    left.write_bytes(b"12345")
    assert found(filled) == {left: LEFTOVER}
    remove(filled, useless(filled))
    assert not left.exists()


def test_a_store_in_order_has_nothing_to_remove(filled: Store) -> None:
    assert found(filled) == {}


def test_what_kills_leave_is_found_and_removed(filled: Store) -> None:
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
    assert sum(waste.bytes for waste in useless(filled)) == 12
    remove(filled, useless(filled))
    assert found(filled) == {} and filled.find(RUN) is not None
    assert Checkpoints(started).load() == {"step": 5}


def test_checkpoints_go_once_their_run_is_finished(filled: Store) -> None:
    done, half = checkpoint(filled, RUN), checkpoint(filled, NOT_RUN)
    assert found(filled) == {done: CHECKPOINTS}
    remove(filled, useless(filled))
    assert not done.exists() and half.exists()


def test_a_tape_goes_when_its_run_is_finished_and_nothing_is_left_to_do(filled: Store) -> None:
    read, unread = tape(filled, RUN), tape(filled, NOT_RUN, "other-stream-seen-no-all-0")
    assert found(filled) == {read: TAPE}
    with held(filled, "0123456789abcdef"):
        assert found(filled) == {}
    half = checkpoint(filled, NOT_RUN)
    assert found(filled) == {}
    Checkpoints(half).clear()
    remove(filled, useless(filled))
    assert not read.exists() and json.loads((unread / "manifest.json").read_text())


def test_what_somebody_works_on_is_neither_found_nor_removed(filled: Store) -> None:
    done = checkpoint(filled, RUN)
    (filled.folder / "runs" / f".{NOT_RUN.run_id}.a1b2").mkdir()
    before = useless(filled)
    assert len(before) == 2
    with held(filled, RUN.run_id), held(filled, NOT_RUN.run_id):
        assert found(filled) == {}
        assert remove(filled, before) == []
    assert done.exists()


def test_a_removal_that_is_killed_leaves_no_half_run(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from lkd.catalogue import entries
    from lkd.housekeeping import of_runs

    chosen = of_runs(filled, entries(filled.folder))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lkd.housekeeping.shutil.rmtree", interrupted)
        remove(filled, chosen)
    assert filled.find(RUN) is None and entries(filled.folder) == []
    assert list(found(filled).values()) == [LEFTOVER]


def interrupted(path: Path) -> None:
    raise KeyboardInterrupt
