"""Trackers log the metrics of each epoch, also of a run that was killed."""

from dataclasses import replace
from pathlib import Path

import pytest
from killing import finished
from short import ALONE, TAUGHT, same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lkd
from lkd import Options
from lkd.runs.store import Run, Store


def scalars(run: Run, store: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows of a run: by figure and epoch."""
    events = EventAccumulator(str(store / "trackers" / run.recipe.run_id / "lkd"))
    events.Reload()
    return {name: {event.step: event.value for event in events.Scalars(name)} for name in events.Tags()["scalars"]}


@pytest.mark.slow
def test_tensorboard_shows_the_history_and_the_run_is_the_same(tmp_path: Path) -> None:
    plain = lkd.run(TAUGHT, store=Store(tmp_path / "plain"))
    told = lkd.run(TAUGHT, store=Store(tmp_path / "told"), options=Options(trackers=["tensorboard"]))
    assert same(plain, told)
    found, rows = scalars(told, tmp_path / "told"), told.history.set_index("epoch")
    for name, column in rows.items():
        assert found[str(name)] == pytest.approx(column.to_dict(), rel=1e-6)
    (settings,) = (tmp_path / "told").glob(f"trackers/{TAUGHT.run_id}/lkd/*/hparams.yml")
    assert TAUGHT.run_id in settings.read_text() and f"objective: {TAUGHT.objective}" in settings.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_was_killed_is_told_whole(processes: int, tmp_path: Path) -> None:
    recipe = replace(ALONE, epochs=3)
    kills = [(3, "training"), (3, "training")]
    run = finished(recipe, tmp_path, kills, processes=processes, trackers=["tensorboard"])
    assert scalars(run, tmp_path)["val_top1"] == pytest.approx(run.history.set_index("epoch").val_top1.to_dict())


def test_a_tracker_that_is_not_there_is_refused_before_any_work() -> None:
    with pytest.raises(KeyError, match="unknown tracker 'tensorbord': did you mean 'tensorboard'"):
        Options(trackers=["tensorbord"])
    with pytest.raises(
        ImportError, match="tracker 'aim' needs its package, which is not installed: run pip install aim"
    ):
        Options(trackers=["aim"])
    with pytest.raises(
        TypeError, match=r'trackers must be a list of names such as \["tensorboard"\], got \'tensorboard\''
    ):
        Options(trackers="tensorboard")


def test_a_tracker_that_fails_is_told_and_stops_no_training(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker.log", full)
    with pytest.warns(UserWarning, match=r"tracker 'tensorboard' failed \(No space left on device\)"):
        run = lkd.run(ALONE, store=store, options=Options(trackers=["tensorboard"]))
    assert same(run, lkd.run(ALONE, store=Store(store.folder / "untold")))


def test_a_tracker_that_cannot_begin_is_named(store: Store) -> None:
    (store.folder / "trackers").mkdir(parents=True)
    (store.folder / "trackers" / ALONE.run_id).touch()
    with pytest.raises(
        OSError, match=r"a tracker of tensorboard cannot start \(.*\): log in to it, .* or leave it out"
    ):
        lkd.run(ALONE, store=store, options=Options(trackers=["tensorboard"]))
