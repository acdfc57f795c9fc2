"""Damage of each kind to each file of a store: found and named, or without effect on anything that is read."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lkd import Recipe
from lkd.data import Batch
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.tape import Tape
from lkd.engine.verify_store import verify
from lkd.objectives import Outputs
from lkd.runs.manifest import MANIFEST
from lkd.runs.published import publish, unpacked
from lkd.runs.store import Run, Store
from lkd.study.measure import measured, place

RECIPE = Recipe(data="digits", student="mini_resnet", train_images=128, sparsity=0.5, epochs=2)
OTHER = replace(RECIPE, seed=1)
RECORDS = ["recipe.json", "student.json", "metrics.json", "provenance.json", "history.csv"]
FILES = [*RECORDS, "student.safetensors", "masks.safetensors", MANIFEST]
Damage = Callable[[Path, Path], None]
"""Damages a file, given the same file of another run."""


def lacking(path: Path, other: Path) -> None:
    path.unlink()


def empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def cut_in_half(path: Path, other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def last_byte_cut(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def foreign(path: Path, other: Path) -> None:
    path.write_bytes(b"[]")


def folder(path: Path, other: Path) -> None:
    path.unlink()
    path.mkdir()


def swapped(path: Path, other: Path) -> None:
    shutil.copyfile(other, path)


def grown(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def zeros(path: Path, other: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flipped(place: float) -> Damage:
    def flip(path: Path, other: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= 4
        path.write_bytes(content)

    flip.__name__ = f"bit_flipped_at_{place}"
    return flip


DAMAGES: list[Damage] = [
    lacking, empty, cut_in_half, last_byte_cut, foreign, folder, swapped, grown, zeros,
    *map(flipped, (0.05, 0.3, 0.5, 0.7, 0.95)),
]  # fmt: skip


def network() -> nn.Module:
    return nn.Linear(3, 2)


def saved(store: Store, recipe: Recipe, value: float) -> Path:
    """A finished run; its folder."""
    student = network()
    nn.init.constant_(student.weight, value)
    nn.init.constant_(student.bias, value)
    history = pd.DataFrame({"epoch": [1, 2], "val_top1": [10.0, value]})
    masks = {"weight": torch.full((2, 3), value > 0)}
    shape = {"in_chans": 1, "num_classes": 10 + recipe.seed}
    store.save(recipe, student, shape, {"test_top1": value}, history, {"seconds": value}, masks)
    return store.path(recipe)


@pytest.fixture
def both(store: Store) -> tuple[Path, Path]:
    """Folders of the run and of another one."""
    return saved(store, RECIPE, 1.5), saved(store, OTHER, -1.5)


def contents(run: Run | None) -> dict[str, Any]:
    """Everything that is read of a run, as plain values."""
    assert run is not None
    weights = {name: tensor.tolist() for name, tensor in run.student.state_dict().items()}
    masks = {name: mask.tolist() for name, mask in run.masks.items()}
    return {
        "records": (dict(run.metrics), run.history.to_dict("list"), run.provenance),
        "weights": weights,
        "masks": masks,
    }


def without_manifest(path: Path) -> None:
    """The folder of a run as lkd wrote it before there were manifests."""
    (path / MANIFEST).unlink()
    values = json.loads((path / "provenance.json").read_text())
    del values["manifest"]
    (path / "provenance.json").write_text(json.dumps(values))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_run_is_named_with_the_remedy(
    name: str, damage: Damage, both: tuple[Path, Path], store: Store
) -> None:
    ours, theirs = both
    before = contents(store.find(RECIPE, network))
    damage(ours / name, theirs / name)
    try:
        after = contents(store.find(RECIPE, network))
    except (OSError, ValueError) as error:
        assert str(ours) in str(error) and f"remove {ours}, and repeat the command" in str(error)
    else:
        assert name == MANIFEST and after == before  # white space of its JSON
    assert contents(store.find(OTHER, network)) != before


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", RECORDS)
def test_an_unpacked_record_that_is_damaged_is_never_read(
    name: str, damage: Damage, both: tuple[Path, Path], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    publish([RECIPE, OTHER], store, tmp_path / "small.zip")
    records = unpacked(tmp_path / "small.zip")
    before = records.find(RECIPE).metrics
    damage(records.path(RECIPE) / name, records.path(OTHER) / name)
    try:
        after = unpacked(tmp_path / "small.zip").find(RECIPE).metrics
    except (OSError, ValueError) as error:
        assert str(records.path(RECIPE)) in str(error) and "remove " in str(error)
    else:
        assert after == before


def test_another_runs_folder_under_this_id_is_refused(both: tuple[Path, Path], store: Store) -> None:
    ours, theirs = both
    shutil.rmtree(ours)
    theirs.rename(ours)
    with pytest.raises(ValueError, match=rf"{ours} contains run {OTHER.run_id}, not {RECIPE.run_id}: remove {ours}"):
        store.find(RECIPE, network)
    without_manifest(ours)
    with pytest.raises(ValueError, match=f"it is the recipe of run {OTHER.run_id}"):
        store.find(RECIPE, network)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_store_is_verified_whole(damage: Damage, both: tuple[Path, Path], store: Store) -> None:
    for recipe in (RECIPE, OTHER):
        measured(store.find(recipe, network), "sum", lambda run: {"x": np.full(9, run.recipe.seed)})
    tape = taped(store.folder / "tapes" / "tape", 1.5)
    Checkpoints(store.folder / "checkpoints" / "run").save(1, {"weights": torch.ones(9)})
    assert [(each.kind, each.total, each.faults) for each in verify(store)] == [
        ("runs", 2, []), ("measurements", 2, []), ("tapes", 1, []), ("checkpoints", 1, [])
    ]  # fmt: skip
    (checkpoint,) = store.folder.glob("checkpoints/run/*.pt")
    ours, theirs = both
    damage(ours / "student.safetensors", theirs / "student.safetensors")
    if damage in (lacking, swapped):
        return
    measurement = next((ours / "measured").iterdir())
    damage(measurement, next((theirs / "measured").iterdir()))
    damage(tape.folder / "records.bin", ours / "recipe.json")
    damage(checkpoint, ours / "recipe.json")
    runs, measurements, tapes, checkpoints = (each.faults for each in verify(store))
    assert len(runs) == len(checkpoints) == 1 and f"{ours / 'student.safetensors'} " in runs[0]
    assert len(measurements) <= 1 and len(tapes) <= 1
    if damage in (empty, cut_in_half, foreign, folder):
        assert f"{measurement} " in measurements[0] and str(tape.folder) in tapes[0]


# Runs from before there were manifests --------------------------------------------------------------------------------


def test_a_run_without_a_manifest_gets_one_when_its_weights_are_read(both: tuple[Path, Path], store: Store) -> None:
    ours, _ = both
    before = contents(store.find(RECIPE, network))
    without_manifest(ours)
    run = store.find(RECIPE, network)
    assert run is not None and not (ours / MANIFEST).exists()
    assert contents(run)["weights"] == before["weights"] and (ours / MANIFEST).exists()
    flipped(0.95)(ours / "student.safetensors", ours)
    with pytest.raises(ValueError, match=r"student\.safetensors .* altered after it was written"):
        store.find(RECIPE, network).student  # noqa: B018


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda weight: weight.fill_(torch.nan), "'weight': not finite"),
        (lambda weight: weight.half(), "weight is torch.float16, expected torch.float32"),
        (lambda weight: weight[:1].clone(), r"Error\(s\) in loading state_dict"),
    ],
    ids=["nan", "dtype", "shape"],
)
def test_weights_without_a_manifest_are_looked_at(
    change: Callable[[torch.Tensor], torch.Tensor], problem: str, both: tuple[Path, Path], store: Store
) -> None:
    ours, _ = both
    without_manifest(ours)
    weights = load_file(ours / "student.safetensors")
    save_file({**weights, "weight": change(weights["weight"])}, ours / "student.safetensors")
    with pytest.raises(ValueError, match=problem):
        store.find(RECIPE, network).student  # noqa: B018
    assert not (ours / MANIFEST).exists()


def test_a_history_that_ends_early_is_refused_without_a_manifest(both: tuple[Path, Path], store: Store) -> None:
    ours, _ = both
    without_manifest(ours)
    (ours / "history.csv").write_text("epoch,val_top1\n1,10.0\n")
    with pytest.raises(ValueError, match=r"history\.csv has 1 of 2 epochs"):
        store.find(RECIPE, network).student  # noqa: B018


# Writing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_values_are_not_saved(value: float, store: Store) -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        saved(store, RECIPE, value)
    with pytest.raises(FloatingPointError, match="'test_top1': not finite"):
        store.save(RECIPE, network(), {}, {"test_top1": value}, pd.DataFrame(), {})
    assert store.find(RECIPE, network) is None


@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
def test_all_files_of_a_run_have_the_mode_of_the_umask(umask: int, store: Store) -> None:
    before = os.umask(umask)
    try:
        path = saved(store, RECIPE, 1.5)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o666 & ~umask}
    assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize("kill", [1, 2, 3])
def test_a_run_survives_a_kill_while_it_is_replaced(
    kill: int, both: tuple[Path, Path], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the first or second rename, or after both: the run before, or the new one, is found whole."""
    left, rename, remove = [kill], Path.rename, shutil.rmtree

    def killed(path: Path, target: Path) -> Path:
        left[0] -= 1
        if not left[0]:
            os._exit(9)
        return rename(path, target)

    def killed_at_last(path: Path, **arguments: Any) -> None:
        if left[0] == 1:
            os._exit(9)
        remove(path, **arguments)

    if not (pid := os.fork()):
        monkeypatch.setattr(Path, "rename", killed)
        monkeypatch.setattr(shutil, "rmtree", killed_at_last)
        saved(store, RECIPE, 2.5)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert contents(store.find(RECIPE, network))["records"][0] == {"test_top1": 2.5 if kill == 3 else 1.5}
    assert contents(Store(store.folder).find(RECIPE, network))["weights"]["bias"] == [2.5 if kill == 3 else 1.5] * 2
    assert saved(store, RECIPE, 3.5) and {path.name for path in (store.folder / "runs").iterdir()} <= {
        RECIPE.run_id, OTHER.run_id, f".{RECIPE.run_id}.before"
    }  # fmt: skip


# Tapes, checkpoints, measurements -------------------------------------------------------------------------------------


def taped(folder: Path, value: float) -> Tape:
    tape = Tape.make(folder, epochs=1, samples=4, classes=10, about={"teacher": str(value), "recipe": {}})
    tape.write(0, batch(), Outputs(torch.full((4, 10), value)))
    tape.records.flush()
    return tape


def batch() -> Batch:
    return Batch(torch.zeros(4, 1, 8, 8), torch.arange(4), positions=torch.arange(4))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["manifest.json", "records.bin"])
def test_a_damaged_tape_gives_no_other_outputs(name: str, damage: Damage, tmp_path: Path) -> None:
    ours, theirs = taped(tmp_path / "ours", 1.5), taped(tmp_path / "theirs", -1.5)
    damage(ours.folder / name, theirs.folder / name)
    try:
        tape = Tape(ours.folder)
        tape.check_content({"epochs": 1, "samples": 4, "classes": 10, "top_k": None, "maps": (), "teacher": "1.5"})
    except (OSError, ValueError) as error:
        assert f"{ours.folder / name} " in str(error) and f"remove {ours.folder}, and repeat" in str(error)
    else:
        found = tape.read(0, batch())
        assert found is None or torch.equal(found.logits, torch.full((4, 10), 1.5))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(damage: Damage, tmp_path: Path) -> None:
    ours, theirs = Checkpoints(tmp_path / "ours"), Checkpoints(tmp_path / "theirs")
    for checkpoints in (ours, theirs):
        for step in (1, 2):
            checkpoints.save(step, {"step": step, "weights": torch.ones(9)})
    (newest, before), (other, _) = (sorted(each.folder.iterdir(), reverse=True) for each in (ours, theirs))
    damage(newest, other)
    if damage is lacking:
        assert ours.load()["step"] == 1
        return
    with pytest.warns(UserWarning, match=f"{newest} is (damaged|of run theirs): training resumes from the one before"):
        assert ours.load()["step"] == 1
    assert before.exists()
    ours.save(3, {"step": 3})
    assert ours.load()["step"] == 3
    ours.clear()
    assert not ours.folder.exists()


def test_a_tape_without_records_is_not_damaged(tmp_path: Path) -> None:
    assert Tape.make(tmp_path / "tape", epochs=2, samples=4, classes=10).damaged() == 0


def test_checkpoints_of_another_run_are_not_resumed(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "theirs").save(1, {"step": 1})
    (tmp_path / "theirs").rename(tmp_path / "ours")
    with pytest.warns(UserWarning, match="is of run theirs: training resumes from the one before it"):
        assert Checkpoints(tmp_path / "ours").load() is None


def test_a_checkpoint_of_other_code_is_refused_by_name(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "run", {"numerics hash": "a"}).save(1, {"step": 1})
    with pytest.raises(ValueError, match="was written with numerics hash a, but it is now b: restore the former, or"):
        Checkpoints(tmp_path / "run", {"numerics hash": "b"}).load()
    assert Checkpoints(tmp_path / "run", {"numerics hash": "a"}).load() == {"step": 1}


def test_a_checkpoint_of_an_earlier_lkd_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lkd.engine.checkpoint._HEADER", "step")
    Checkpoints(tmp_path / "run").save(1, {})
    monkeypatch.undo()
    assert Checkpoints(tmp_path / "run", {"numerics hash": "a"}).load() == {"step": {"run": "run"}}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_measurement_is_named_or_made_again(damage: Damage, both: tuple[Path, Path], store: Store) -> None:
    ours, theirs = (store.find(recipe, network) for recipe in (RECIPE, OTHER))
    for run, value in ((ours, 1.0), (theirs, 2.0)):
        measured(run, "sum", lambda run, value=value: {"x": np.full(9, value)})
    damage(place(ours, "sum"), place(theirs, "sum"))
    try:
        found = measured(ours, "sum", lambda run: {"x": np.ones(9)})
    except (OSError, ValueError) as error:
        assert f"{place(ours, 'sum')} " in str(error) and "remove it, and it is measured again" in str(error)
    else:
        assert found["x"].tolist() == [1.0] * 9
