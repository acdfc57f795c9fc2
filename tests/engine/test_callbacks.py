"""Callbacks see a run, and cannot change its result."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short import ALONE, TAUGHT, TEACHER, same

import lkd
from lkd import Options
from lkd.engine import Callback, StopRun, TrainingState
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


class Notes(Callback):
    """Keeps all it sees, draws random numbers, and changes what it can."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, TrainingState, dict[str, float]]] = []

    def on_step(self, state: TrainingState) -> None:
        self.note("step", state)

    def on_epoch(self, state: TrainingState) -> None:
        self.note("epoch", state)

    def on_end(self, state: TrainingState) -> None:
        self.note("end", state)

    def note(self, moment: str, state: TrainingState) -> None:
        self.seen.append((moment, state, dict(state.losses)))
        torch.rand(3), np.random.rand(3), random.random()
        state.losses.clear()
        if moment == "step":
            state.history.append({"epoch": 0.0})


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, state: TrainingState) -> None:
        if state.step == self.step:
            raise StopRun("far enough")


def test_a_callback_sees_each_step_and_epoch_and_leaves_the_result_alone(tmp_path: Path) -> None:
    recipe, notes = replace(ALONE, mixup=0.2, student_args={"drop_rate": 0.2}), Notes()
    plain = lkd.run(recipe, store=Store(tmp_path / "plain"))
    seen = lkd.run(recipe, store=Store(tmp_path / "seen"), options=Options(callbacks=[notes]))
    assert same(plain, seen) and seen.provenance["options"]["callbacks"] == ["Notes"]
    moments = [(moment, state.step, state.epoch) for moment, state, _ in notes.seen]
    steps = [("step", 1, 0), ("step", 2, 0), ("epoch", 2, 1), ("step", 3, 1), ("step", 4, 1)]
    assert moments == [*steps, ("epoch", 4, 2), ("end", 4, 2)] and notes.seen[0][1].steps == 4
    assert notes.seen[-1][1].history == seen.history.to_dict("records")
    losses = [losses["total"] for moment, _, losses in notes.seen if moment == "step"]
    assert losses[1::2] == pytest.approx(seen.history.train_total.tolist())
    assert len({state.learning_rate for _, state, _ in notes.seen}) > 1


def test_a_stopped_run_is_not_stored_and_the_same_call_goes_on(tmp_path: Path) -> None:
    plain, store, notes = lkd.run(ALONE, store=Store(tmp_path / "plain")), Store(tmp_path / "stopped"), Notes()
    with pytest.raises(StopRun, match="far enough"):
        lkd.run(ALONE, store=store, options=Options(callbacks=[StopAt(3)], checkpoint_seconds=0))
    assert store.find(ALONE) is None
    assert same(lkd.run(ALONE, store=store, options=Options(callbacks=[notes])), plain)
    assert [state.step for moment, state, _ in notes.seen if moment == "step"] == [4]


def test_a_teacher_that_is_trained_first_has_its_own_calls_and_a_stored_run_none(store: Store) -> None:
    notes = Notes()
    for _ in range(2):
        lkd.run(TAUGHT, store=store, options=Options(callbacks=[notes]))
    assert [state.recipe for moment, state, _ in notes.seen if moment == "end"] == [TEACHER, TAUGHT]


@pytest.mark.parametrize(
    ("callbacks", "told"),
    [
        (Notes(), "callbacks must be a list of lkd.engine.Callback instances, got <"),
        ([Notes], r"callbacks\[0\] must be an instance of a lkd.engine.Callback, got the class Notes"),
        ([Notes(), print], r"callbacks\[1\] .*got a builtin_function_or_method"),
    ],
)
def test_other_objects_are_refused(callbacks: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        Options(callbacks=callbacks)


def test_a_callback_that_other_processes_cannot_import_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StopAt, "__module__", "__main__")
    with pytest.raises(
        ValueError, match="a callback cannot be sent to other processes: StopAt is defined in a notebook"
    ):
        lkd.run(ALONE, store=store, num_processes=2, options=Options(callbacks=[StopAt(1)]))
