"""The tape changes how often the teacher runs, and nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from short import TAUGHT, TEACHER, same

import lkd
from lkd import Recipe
from lkd.data import Batch
from lkd.engine.run import record_tape
from lkd.engine.setting import Setting
from lkd.engine.tape import Tape
from lkd.engine.teacher import LiveTeacher
from lkd.models import fold_batchnorm
from lkd.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

AUGMENTED = replace(TAUGHT, crop=2, mixup=0.2, cutmix=1.0)
HALF = replace(AUGMENTED, precision="bf16")


def tapes(store: Store) -> list[Path]:
    """All that lies among the tapes, hidden or not."""
    return list((store.folder / "tapes").iterdir())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that live teachers are asked about from now on."""
    batches, call = [], LiveTeacher.__call__

    def counted(teacher: LiveTeacher, epoch: int, batch: Batch) -> torch.Tensor:
        batches.append(len(batch.images))
        return call(teacher, epoch, batch)

    monkeypatch.setattr(LiveTeacher, "__call__", counted)
    return batches


@pytest.mark.parametrize("recipe", [AUGMENTED, HALF], ids=["float32", "bf16"])
def test_a_student_of_a_tape_is_the_student_of_the_teacher(recipe: Recipe, tmp_path: Path, asked: list[int]) -> None:
    live = lkd.run(recipe, store=Store(tmp_path / "live"))
    assert len(asked) == 4
    store = Store(tmp_path / "taped")
    record_tape(recipe, store)
    assert len(asked) == 8
    taped = lkd.run(recipe, store=store)
    assert len(asked) == 8, "the teacher was asked again"
    assert same(taped, live)


def test_a_tape_is_recorded_once(store: Store, asked: list[int]) -> None:
    record_tape(TAUGHT, store)
    record_tape(replace(TAUGHT, student="mini_convnext_nano", objective="nkd", objective_args={}, lr=1e-4), store)
    assert len(asked) == 4
    assert len(tapes(store)) == 1


def test_a_tape_holds_the_teachers_logits_of_every_place_in_the_stream(store: Store) -> None:
    record_tape(AUGMENTED, store)
    (path,) = tapes(store)
    logits = np.load(path)
    assert logits.shape == (2, 128, 10) and logits.dtype == np.float32
    assert path.stat().st_size == pytest.approx(logits.nbytes, abs=256)
    teacher, stream = fold_batchnorm(lkd.run(TEACHER, store=store).student), Setting(AUGMENTED, {}).stream
    for epoch in range(2):
        for step in range(2):
            batch = stream.batch(epoch, step)
            with torch.no_grad():
                expected = teacher(batch.images)
            assert torch.equal(torch.from_numpy(logits[epoch, batch.positions]), expected)
            assert torch.equal(Tape(path)(epoch, batch), expected)


def test_a_process_reads_its_share_of_the_tape(store: Store) -> None:
    record_tape(TAUGHT, store)
    tape, stream = Tape(tapes(store)[0]), Setting(TAUGHT, {}).stream
    whole = tape(1, stream.batch(1, 1))
    for process in range(2):
        assert torch.equal(tape(1, stream.batch(1, 1, process, 2)), whole[process::2])


@pytest.mark.parametrize(
    "changes",
    [{"teacher": replace(TEACHER, seed=1)}, {"seed": 1}, {"crop": 1}, {"train_images": 64}, {"precision": "bf16"}],
    ids=lambda changes: next(iter(changes)),
)
def test_another_teacher_or_stream_has_another_tape(changes: dict[str, Any], store: Store) -> None:
    record_tape(TAUGHT, store)
    record_tape(replace(TAUGHT, **changes), store)
    assert len(tapes(store)) == 2


def test_a_teacher_trained_again_to_other_weights_has_another_tape(store: Store, asked: list[int]) -> None:
    record_tape(TAUGHT, store)
    other = lkd.run(replace(TEACHER, seed=1), store=store)
    found = lkd.run(TEACHER, store=store)
    (other.path / "student.safetensors").replace(found.path / "student.safetensors")
    asked.clear()
    lkd.run(TAUGHT, store=store)
    assert len(asked) == 4, "the tape of other weights was read"


def test_a_tape_that_broke_off_is_never_read(store: Store, monkeypatch: pytest.MonkeyPatch, asked: list[int]) -> None:
    def fail(path: Path, logits: np.ndarray) -> NoReturn:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", fail)
        with pytest.raises(OSError, match="disk full"):
            record_tape(TAUGHT, store)
    assert tapes(store) == []
    asked.clear()
    record_tape(TAUGHT, store)
    assert len(asked) == 4
    assert np.load(tapes(store)[0]).shape == (2, 128, 10)
