"""The tape changes how often the teacher runs, and nothing else."""

import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short import TAUGHT, TEACHER, same
from typer.testing import CliRunner

import lkd
from lkd import Recipe
from lkd.cli import app
from lkd.data import Batch
from lkd.engine import Options
from lkd.engine.setup import RunSetup
from lkd.engine.tape import Tape, bytes_needed
from lkd.engine.tape_tools import record_tape, verify_tape
from lkd.engine.teacher import FrozenTeacher
from lkd.engine.teacher_check import check_teacher
from lkd.engine.trainer import Trainer
from lkd.engine.trial_step import trial_step
from lkd.models import fold_batchnorm
from lkd.objectives import Outputs
from lkd.runs.manifest import write_manifest
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

AUGMENTED = replace(TAUGHT, crop=2, mixup=0.2, cutmix=1.0)
HALF = replace(AUGMENTED, precision="bf16")


def tapes(store: Store) -> list[Path]:
    """All that lies among the tapes, hidden or not."""
    return list((store.folder / "tapes").iterdir())


def logits(tape: Tape, epoch: int, batch: Batch) -> torch.Tensor:
    found = tape.read(epoch, batch)
    assert found is not None
    return found.logits


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that live teachers see in training from now on, neither before it nor after it."""
    batches, call = [], FrozenTeacher.__call__

    def uncounted(function: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any) -> Any:
            before = len(batches)
            result = function(*arguments)
            del batches[before:]
            return result

        return done

    def counted(teacher: FrozenTeacher, epoch: int, batch: Batch) -> Outputs:
        batches.append(len(batch.images))
        return call(teacher, epoch, batch)

    monkeypatch.setattr(FrozenTeacher, "__call__", counted)
    for before_training in (check_teacher, trial_step):
        monkeypatch.setattr(sys.modules["lkd.engine.run"], before_training.__name__, uncounted(before_training))
    monkeypatch.setattr(Trainer, "predictions", uncounted(Trainer.predictions))
    return batches


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_tape_has_the_layers_that_are_named_and_another_one_other_layers(store: Store, asked: list[int]) -> None:
    layers = {"student_layers": ["stages.1"], "teacher_layers": ["stages.2"]}
    recipe = replace(TAUGHT, objective="nkd+fd", objective_args=layers)
    record_tape(recipe, store)
    before = asked.count(64)
    live = lkd.run(recipe, store=Store(store.folder / "live"))
    assert asked.count(64) == before + 4
    assert same(lkd.run(recipe, store=store), live) and asked.count(64) == before + 4
    record_tape(replace(recipe, objective_args={**layers, "teacher_layers": ["stages.1"]}), store)
    assert len(tapes(store)) == 2


def test_a_tape_is_recorded_once(store: Store, asked: list[int]) -> None:
    record_tape(TAUGHT, store)
    record_tape(replace(TAUGHT, student="mini_convnext_nano", objective="nkd", objective_args={}, lr=1e-4), store)
    assert len(asked) == 4
    assert len(tapes(store)) == 1


def test_a_tape_holds_what_the_teacher_says_at_every_place_in_the_stream(store: Store) -> None:
    tape = record_tape(AUGMENTED, store)
    assert (tape.folder / "records.bin").stat().st_size == 2 * 128 * (10 + 1) * 4 == tape.manifest["bytes"]
    assert tape.complete and Tape(tape.folder).complete
    teacher, stream = fold_batchnorm(lkd.run(TEACHER, store=store).student), RunSetup(AUGMENTED, {}).stream
    for epoch in range(2):
        for batch in stream.batches(epoch):
            with torch.no_grad():
                expected = teacher(batch.images)
            assert torch.equal(logits(tape, epoch, batch), expected)


def test_a_process_reads_its_share_of_the_tape(store: Store) -> None:
    tape, stream = record_tape(TAUGHT, store), RunSetup(TAUGHT, {}).stream
    whole = logits(tape, 1, stream.batch(1, 1))
    for process in range(2):
        assert torch.equal(logits(tape, 1, stream.batch(1, 1, process, 2)), whole[process::2])


@pytest.mark.parametrize(
    "changes",
    [{"teacher": replace(TEACHER, seed=1)}, {"seed": 1}, {"crop": 1}, {"train_images": 64}, {"precision": "bf16"}],
    ids=lambda changes: next(iter(changes)),
)
def test_another_teacher_or_stream_has_another_tape(changes: dict[str, Any], store: Store) -> None:
    record_tape(TAUGHT, store)
    record_tape(replace(TAUGHT, **changes), store)
    assert len(tapes(store)) == 2


@pytest.mark.slow
def test_a_teacher_trained_again_to_other_weights_has_another_tape(store: Store, asked: list[int]) -> None:
    record_tape(TAUGHT, store)
    other = lkd.run(replace(TEACHER, seed=1), store=store)
    found = lkd.run(TEACHER, store=store)
    (other.path / "student.safetensors").replace(found.path / "student.safetensors")
    write_manifest(found.path, TEACHER.run_id)
    asked.clear()
    lkd.run(TAUGHT, store=store)
    assert len(asked) == 4, "the tape of other weights was read"


def test_a_tape_that_broke_off_is_finished_and_not_begun_again(store: Store, asked: list[int]) -> None:
    calls = iter(range(100))

    def break_off(*arguments: Any) -> Outputs:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return write(*arguments)

    write = Tape.write
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Tape, "write", break_off)
        record_tape(TAUGHT, store)
    (path,) = tapes(store)
    assert Tape(path).recorded() == 3 * 64 and not Tape(path).complete
    asked.clear()
    assert record_tape(TAUGHT, store).complete
    assert asked == [64]


@pytest.mark.slow
@pytest.mark.parametrize("byte", [0, 41], ids=["content", "checksum"])
def test_a_damaged_record_is_asked_for_again(byte: int, store: Store, asked: list[int]) -> None:
    tape = record_tape(TAUGHT, store)
    before = bytearray((tape.folder / "records.bin").read_bytes())
    place = 70 * tape.records.dtype.itemsize + byte
    damaged = bytearray(before)
    damaged[place] ^= 1
    (tape.folder / "records.bin").write_bytes(damaged)
    asked.clear()
    taped = lkd.run(TAUGHT, store=store)
    assert asked == [64]
    assert (tape.folder / "records.bin").read_bytes() == before
    assert same(taped, lkd.run(TAUGHT, store=Store(store.folder / "other")))


def test_a_record_at_another_place_is_no_record(tmp_path: Path) -> None:
    tape = Tape.make(tmp_path / "tape", epochs=2, samples=4, classes=3)
    here = Batch(torch.zeros(1, 1, 2, 2), torch.tensor([0]), torch.tensor([1]))
    tape.write(0, here, Outputs(torch.ones(1, 3)))
    tape.records[1, 1] = tape.records[0, 1]
    assert tape.read(0, here) is not None and tape.read(1, here) is None


def test_a_tape_that_does_not_fit_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"the tape big takes 4,400,000,000,000,000 bytes, .* has [\d,]+ free: make room"):
        Tape.make(tmp_path / "big", epochs=10**6, samples=10**8, classes=10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("trained", [False, True])
def test_a_tape_that_does_not_fit_is_refused_before_its_teacher_is_trained(
    trained: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trained:
        record_tape(TAUGHT, store)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 2**22}))
    larger = {1: 1, TAUGHT.epochs: 10**6}  # a tape of one epoch holds the test images
    monkeypatch.setattr(
        "lkd.engine.teacher_source.bytes_needed", lambda form: larger[form["epochs"]] * bytes_needed(form)
    )
    if trained:
        lkd.run(TAUGHT, store=store, options=Options(tape=True))
    else:
        with pytest.raises(OSError, match=r"this run needs [\d,]+, 11,264,000,000 of them for its tape"):
            lkd.run(TAUGHT, store=store, options=Options(tape=True))
        assert store.find(TEACHER) is None


def test_a_tape_that_may_only_be_read_is_read(store: Store, asked: list[int]) -> None:
    tape = record_tape(TAUGHT, store)
    locked, asked[:] = Tape(tape.folder), []
    locked.records.flags.writeable = False
    batch = RunSetup(TAUGHT, {}).stream.batch(0, 0)
    said = locked.read(0, batch)
    assert said is not None and not asked
    with pytest.raises(PermissionError, match="cannot be written: make it writable, or remove it"):
        locked.write(0, batch, said)


# The first student writes it ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_student_that_writes_the_tape_is_the_student_of_the_teacher_and_the_next_one_reads(
    store: Store, tmp_path: Path, asked: list[int]
) -> None:
    first = lkd.run(AUGMENTED, store=store, options=Options(tape=True))
    assert len(asked) == 4
    lkd.run(replace(AUGMENTED, objective="nkd", objective_args={}), store=store)
    assert len(asked) == 4, "the teacher was asked again"
    assert same(first, lkd.run(AUGMENTED, store=Store(tmp_path / "live")))


# The likeliest classes only -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_with_k_classes_a_student_of_the_tape_is_the_student_of_the_teacher(tmp_path: Path, store: Store) -> None:
    brief = replace(AUGMENTED, teacher_top_k=3)
    live = lkd.run(brief, store=Store(tmp_path / "live"))
    tape = record_tape(brief, store)
    assert tape.records.dtype.itemsize == 4 * (3 + 3 + 1 + 1 + 1)
    assert same(lkd.run(brief, store=store), live)
    assert not same(lkd.run(AUGMENTED, store=store), live)


# Checked ------------------------------------------------------------------------------------------------------------


def test_a_tape_is_verified_against_its_teacher(store: Store) -> None:
    tape = record_tape(AUGMENTED, store)
    assert verify_tape(tape, store).difference == 0
    records = tape.records[0, :64].copy()
    records["logits"][:, 3] += 0.5
    records["check"] = tape._checks(records, 0, np.arange(64))
    tape.records[0, :64] = records
    assert verify_tape(tape, store, batches=20).difference == pytest.approx(0.5, rel=1e-4)
    tape.records[0, 70] = 0
    with pytest.raises(ValueError, match="has no intact records of epoch 1 from position 64 on"):
        verify_tape(tape, store, batches=20)


@pytest.mark.slow
def test_a_tape_that_differs_by_rounding_is_no_wrong_tape(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = record_tape(TAUGHT, store)
    monkeypatch.setenv("LKD_HOME", str(store.folder))
    for factor, code in ((1 + 1e-6, 0), (1 + 1e-3, 1)):
        records = tape.records[0].copy()
        records["logits"] *= factor
        records["check"] = tape._checks(records, 0, np.arange(len(records)))
        tape.records[0] = records
        found = verify_tape(tape, store, batches=20)
        assert found.difference > 0 and (found.difference > found.rounding) == code
        assert CliRunner().invoke(app, ["tape", "verify", "--batches", "20"]).exit_code == code


def test_a_tape_of_other_weights_is_told(store: Store) -> None:
    tape = record_tape(TAUGHT, store)
    other, found = lkd.run(replace(TEACHER, seed=1), store=store), store.find(TEACHER)
    assert found is not None
    (other.path / "student.safetensors").replace(found.path / "student.safetensors")
    write_manifest(found.path, TEACHER.run_id)
    with pytest.raises(ValueError, match="was recorded from other weights of teacher 'mini_convnext_nano'"):
        verify_tape(tape, store)


def test_verifying_a_tape_trains_no_teacher(store: Store) -> None:
    tape, teacher = record_tape(TAUGHT, store), store.find(TEACHER)
    assert teacher is not None
    shutil.rmtree(teacher.path)
    with pytest.raises(ValueError, match=f"is missing: the store does not have run {TEACHER.run_id}"):
        verify_tape(tape, store)
    assert store.find(TEACHER) is None


def test_the_command_lists_and_verifies(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = record_tape(TAUGHT, store)
    monkeypatch.setenv("LKD_HOME", str(store.folder))
    listed = CliRunner().invoke(app, ["tape", "list"])
    assert listed.output == f"{tape.folder.name}  mini_convnext_nano  0.0 MiB  100%\n"
    verified = CliRunner().invoke(app, ["tape", "verify", tape.folder.name[:6]])
    told = rf"{tape.folder.name}  largest difference 0 \(rounding: \de-0\d\)\n"
    assert verified.exit_code == 0 and re.fullmatch(told, verified.output)
    tape.records[:] = 0
    assert CliRunner().invoke(app, ["tape", "verify"]).exit_code == 1
    manifest = tape.folder / "manifest.json"
    text = manifest.read_text().replace('"objective_args"', '"objective_arguments"', 1)
    manifest.write_text(text)
    altered = CliRunner().invoke(app, ["tape", "verify"])
    assert altered.exit_code == 1 and "(it was altered after it was written)" in altered.output
    manifest.write_text(re.sub(r'"key": "\w+"', '"recorded": "by an lkd of other fields"', text))
    refused = CliRunner().invoke(app, ["tape", "verify"])
    told = r"lkd: \S+/manifest\.json .* \(unknown field of a recipe 'objective_arguments'.*: use the version .*\n"
    assert refused.exit_code == 1 and re.fullmatch(told, refused.output)
    assert CliRunner().invoke(app, ["tape", "verify", "nothing"]).exit_code == 2
