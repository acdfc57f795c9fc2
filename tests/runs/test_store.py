"""Runs on disk are found as they were saved, complete or not at all, by any number of processes."""

import errno
import multiprocessing
import os
import time
from datetime import UTC, datetime, timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest
import timm
import torch
from torch import nn

import lkd
from lkd import Recipe
from lkd.engine.trainer import Trainer
from lkd.runs import provenance
from lkd.runs.manifest import RECORDS
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(data="digits", student="mini_resnet", train_images=128)
SHAPE = {"in_chans": 1, "num_classes": 10}
METRICS = {"val_top1": 1 / 3, "test_loss": 0.1 + 0.2}
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "loss": [0.1 + 0.2, 5e-324, 1.7976931348623157e308], "top1": [1 / 3, 0, 9]})
FILES = {*RECORDS, "student.safetensors", "manifest.json"}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("mini_resnet", **SHAPE)


def save(store: Store, student: nn.Module, metrics: dict[str, float] = METRICS) -> None:
    store.save(RECIPE, student, SHAPE, metrics, HISTORY, {"seconds": 1.5})


def files(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()}


def names(store: Store) -> list[str]:
    """All that lies among the runs, hidden or not."""
    return [path.name for path in (store.folder / "runs").iterdir()]


def killed(*args: Any) -> NoReturn:
    """Stands for a SIGKILL while writing: leaves a part of the file, without cleaning up."""
    Path(args[-1]).write_bytes(b"half")
    os._exit(9)


# One process --------------------------------------------------------------------------------------------------------


def test_a_run_is_found_as_it_was_saved(store: Store) -> None:
    assert store.find(RECIPE) is None
    save(store, network())
    found = Store(store.folder).find(RECIPE)
    assert found is not None
    assert found.metrics == METRICS
    assert found.provenance == {"seconds": 1.5, "manifest": True}
    assert found.path.name == RECIPE.run_id
    pd.testing.assert_frame_equal(found.history, HISTORY, check_exact=True)


def test_the_trained_weights_and_buffers_come_back_to_the_bit(store: Store) -> None:
    student = network()
    student(torch.randn(8, 1, 32, 32))
    save(store, student)
    found = store.find(RECIPE)
    assert found is not None and not found.student.training
    assert found.student.state_dict().keys() == student.state_dict().keys()
    for name, tensor in found.student.state_dict().items():
        assert torch.equal(tensor, student.state_dict()[name]), name


def test_a_network_unknown_to_timm_is_built_by_its_owner(store: Store) -> None:
    student = nn.Linear(3, 2)
    save(store, student)
    found = store.find(RECIPE, build=lambda: nn.Linear(3, 2))
    assert found is not None
    assert torch.equal(found.student(torch.eye(3)), student(torch.eye(3)))


def test_a_run_saved_again_replaces_the_first(store: Store) -> None:
    save(store, network(0), {"val_top1": 1.0})
    save(store, network(1), {"val_top1": 2.0})
    found = store.find(RECIPE)
    assert found is not None
    assert found.metrics == {"val_top1": 2.0}
    assert torch.equal(found.student.stem.conv.weight, network(1).stem.conv.weight)
    assert names(store) == [RECIPE.run_id]
    assert files(found.path) == FILES


def test_masks_are_kept_beside_the_weights_and_none_for_a_dense_run(store: Store) -> None:
    masks = {"fc.weight": torch.tensor([[True, False]]), "conv.weight": torch.ones(2, 1, 3, 3).bool().mT}
    store.save(RECIPE, network(), SHAPE, METRICS, HISTORY, {}, masks)
    sparse = store.find(RECIPE)
    assert sparse is not None and sparse.masks.keys() == masks.keys()
    assert all(torch.equal(sparse.masks[name], mask) for name, mask in masks.items())
    assert files(sparse.path) == FILES | {"masks.safetensors"}
    save(store, network())
    dense = store.find(RECIPE)
    assert dense is not None and dense.masks == {} and files(dense.path) == FILES


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()], ids=["full", "interrupt"])
@pytest.mark.parametrize("before", [False, True], ids=["new", "replacing"])
def test_an_exception_while_saving_leaves_the_store_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: BaseException, before: bool
) -> None:
    if before:
        save(store, network())

    def fail(student: nn.Module, path: str) -> NoReturn:
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr("lkd.runs.store.save_model", fail)
    with pytest.raises(type(error)):
        save(store, network(1), {"val_top1": 2.0})
    assert names(store) == ([RECIPE.run_id] if before else [])
    found = store.find(RECIPE)
    assert found.metrics == METRICS if before and found else found is None


def test_a_kill_while_saving_leaves_no_run_and_the_next_one_clears_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("lkd.runs.store.save_model", killed)
        process = multiprocessing.get_context("fork").Process(target=save, args=(store, network()))
        process.start()
        process.join()
    assert process.exitcode == 9
    assert store.find(RECIPE) is None
    save(store, network())
    assert store.find(RECIPE) is not None
    assert names(store) == [RECIPE.run_id]


def test_a_store_is_made_where_there_is_none(tmp_path: Path) -> None:
    run = lkd.run(RECIPE, store=Store(tmp_path / "a" / "b"))
    assert run.path == tmp_path / "a" / "b" / "runs" / RECIPE.run_id


def test_a_store_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "run", lambda *_: pytest.fail("it trained"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write to the store .*/file/store \(Not a directory\): give another"):
        lkd.run(RECIPE, store=Store(tmp_path / "file" / "store"))


# What a run comes from ----------------------------------------------------------------------------------------------


def test_a_run_has_its_provenance(store: Store) -> None:
    told = lkd.run(RECIPE, store=store).provenance
    assert torch.__version__.startswith(told["packages"]["torch"]) and timm.__version__ == told["packages"]["timm"]
    assert told["threads"] == torch.get_num_threads() == 1
    assert 0 < told["seconds"] < 60
    assert abs(datetime.now(UTC) - datetime.fromisoformat(told["started"])) < timedelta(minutes=2)
    assert told["source"] == provenance.source_hash()


def test_the_source_hash_changes_with_any_line_and_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PACKAGE", tmp_path)
    code, data = tmp_path / "inner" / "code.py", tmp_path / "scale.yaml"
    code.parent.mkdir()
    hashes = []
    for write in (
        lambda: code.write_text("a = 1\n"),
        lambda: data.write_text("a: 1\n"),
        lambda: data.write_text("a: 2\n"),
        lambda: code.rename(tmp_path / "code.py"),
    ):
        write()
        hashes.append(provenance.source_hash.__wrapped__())
    (tmp_path / "notes.txt").write_text("not code")
    assert provenance.source_hash.__wrapped__() == hashes[-1]
    assert len(set(hashes)) == 4


# Two processes ------------------------------------------------------------------------------------------------------


def train_counted(folder: Path, together: Barrier, reports: "Queue[tuple[int, dict[str, float]]]") -> None:
    """Run `RECIPE` and report how often this process trained; training starts slowly, so that two would meet."""
    torch.set_num_threads(1)
    fits, train = [], Trainer.run

    def slowly(*args: Any) -> Any:
        fits.append(time.sleep(2))
        return train(*args)

    Trainer.run = slowly
    together.wait()
    run = lkd.run(RECIPE, store=Store(folder))
    reports.put((len(fits), dict(run.metrics)))


@pytest.mark.slow
def test_of_two_processes_with_one_recipe_one_trains_and_both_have_the_run(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    together, reports = context.Barrier(2), context.Queue()
    processes = [context.Process(target=train_counted, args=(store.folder, together, reports)) for _ in range(2)]
    for process in processes:
        process.start()
    (first, metrics), (second, others) = (reports.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    assert first + second == 1
    assert metrics == others
    assert names(store) == [RECIPE.run_id]
