"""Several processes for one run, started from a notebook or by hand."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from short import ALONE, TAUGHT, Perceptron, Wayward, wait_until
from traps import Trap

import lkd
from lkd.runs.launches import Launch
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("temporary")

RECIPE = replace(TAUGHT, batch_size=32)
IMPORTABLE = str(Path(__file__).parents[1])
"""The folder of `short`, from which other processes import models."""


@pytest.mark.slow
def test_two_processes_started_from_here_leave_their_run_in_the_store(store: Store, tmp_path: Path) -> None:
    (store.folder / "launches").mkdir(parents=True)
    torch.save({RECIPE.student: Trap(tmp_path / "sprung")}, store.folder / "launches" / f"{RECIPE.run_id}.objects.pt")
    run = lkd.run(RECIPE, store=store, num_processes=2)
    assert run.provenance["processes"] == 2
    assert not (tmp_path / "sprung").exists(), "a pickle of the store was loaded"
    alone = lkd.run(RECIPE, store=Store(store.folder / "alone"))
    first, other = run.history.iloc[0], alone.history.iloc[0]
    assert first.train_kd == pytest.approx(other.train_kd, rel=0.02)
    assert first.train_total != other.train_total, "batch norm saw the same batches"


@pytest.mark.slow
def test_processes_outlive_the_one_that_started_them_and_are_found_again(store: Store) -> None:
    recipe = replace(ALONE, epochs=30)
    code = f"""
import lkd
from lkd.runs.store import Store
lkd.run(lkd.Recipe.from_dict({recipe.to_dict()!r}), store=Store({str(store.folder)!r}), num_processes=2)
"""
    notebook = subprocess.Popen([sys.executable, "-c", code])
    files = Launch.of(store.folder, recipe.run_id)
    wait_until(files.progress.exists)
    children = [child.pid for child in psutil.Process(notebook.pid).children(recursive=True)]
    notebook.send_signal(signal.SIGKILL)
    notebook.wait()
    assert any(psutil.pid_exists(pid) for pid in children), "they ended with it"
    started = files.launcher.read_text()
    run = lkd.run(recipe, store=store, num_processes=2)
    assert run.provenance["processes"] == 2 and len(run.history) == 30
    assert files.launcher.read_text() == started, "they were started again"


@pytest.mark.slow
def test_one_process_that_fails_ends_the_others_and_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", IMPORTABLE, prepend=os.pathsep)
    with pytest.raises(RuntimeError, match=r"(?s)in 2 processes failed.*RuntimeError: process 1 has had enough"):
        lkd.train(Wayward(), data="digits", profile="smoke", epochs=3, store=store, num_processes=2)
    assert not list(store.folder.glob("runs/*"))


@pytest.mark.slow
def test_a_model_of_ones_own_is_trained_by_two_processes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", IMPORTABLE, prepend=os.pathsep)
    run = lkd.train(Perceptron(), data="digits", profile="smoke", epochs=1, store=store, num_processes=2)
    assert run.provenance["processes"] == 2 and isinstance(run.student, Perceptron)


@pytest.mark.slow
def test_processes_end_with_a_launcher_that_is_killed_and_their_run_goes_on(store: Store) -> None:
    recipe, options = replace(ALONE, epochs=40), lkd.Options(checkpoint_seconds=0)
    files = Launch.of(store.folder, recipe.run_id)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(lkd.run, recipe, store=store, num_processes=2, options=options)
        wait_until(lambda: list(store.folder.glob("checkpoints/*/*-*.pt")))
        os.kill(int(files.launcher.read_text()), signal.SIGKILL)
        with pytest.raises(RuntimeError, match="training in 2 processes failed"):
            first.result()
    assert files.processes() == [] and not files.task.exists()
    assert len(lkd.run(recipe, store=store).history) == 40


@pytest.mark.slow
def test_a_recipe_in_a_file_runs_under_accelerate_launch(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(ALONE.to_dict()))
    launcher = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    command = [sys.executable, *launcher.split(), "--dynamo_backend", "no", "--main_process_port", "0"]
    environment = {**os.environ, "LKD_HOME": str(tmp_path / "home"), "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*command, "-m", "lkd", "run-recipe", str(file)], check=True, env=environment)
    run = Store(tmp_path / "home").find(ALONE)
    assert run is not None and run.provenance["processes"] == 2


def test_a_batch_that_does_not_part_evenly_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match=r"batch_size 64 cannot be shared evenly by 3 processes"):
        lkd.run(ALONE, store=store, num_processes=3)


def test_parts_of_a_share_that_are_not_even_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match=r"accumulation 64 does not divide the 32 images"):
        lkd.run(replace(ALONE, accumulation=64), store=store, num_processes=2)


def test_batch_statistics_over_processes_need_gpus(store: Store) -> None:
    with pytest.raises(ValueError, match="sync_bn needs a GPU, and there is none"):
        lkd.run(replace(ALONE, sync_bn=True), store=store)


@pytest.mark.parametrize("processes", [0, 1.5, True])
def test_a_number_of_processes_that_is_none_is_refused(processes: float, store: Store) -> None:
    with pytest.raises((TypeError, ValueError), match="num_processes must be"):
        lkd.run(ALONE, store=store, num_processes=processes)


def test_a_model_that_cannot_be_sent_is_refused(store: Store) -> None:
    class Here(Perceptron):
        pass

    class There(Perceptron):
        pass

    There.__module__ = "__main__"
    for student in (Here(), There()):
        with pytest.raises(ValueError, match=r"cannot be sent to other processes.*define its class in an import"):
            lkd.distill(student, Perceptron(32), data="digits", profile="smoke", store=store, num_processes=2)
    assert not list(store.folder.glob("runs/*"))
