"""Parallel workers: order, equal results, failures and kills."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread

import psutil
import pytest
import torch
from short import ALONE, TAUGHT, TEACHER, same, stop, wait_until

import lkd
from lkd import Recipe
from lkd.engine import workers as side_by_side
from lkd.engine.jobs import Job, remaining_jobs
from lkd.engine.options import Options
from lkd.engine.trainer import Trainer
from lkd.engine.workers import FailedRunsError, execute_all, work
from lkd.runs.store import Store
from lkd.util import processes as ending

pytestmark = pytest.mark.usefixtures("one_thread")

BY_NKD = replace(TAUGHT, objective="nkd", objective_args={})
STUDY = (TEACHER, ALONE, TAUGHT, BY_NKD)
DIVERGING = replace(TEACHER, optimizer="sgd", lr=1e30, clip=None, warmup=0.0, epochs=9)
SECONDS = 240


def run(recipe: Recipe) -> Job:
    return Job("run", recipe)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Each recipe of the study, one after the other in this process, without a tape."""
    torch.set_num_threads(1)
    store = Store(tmp_path_factory.mktemp("uninterrupted"))
    for recipe in STUDY:
        lkd.run(recipe, store=store)
    return store


def assert_same(recipes: Sequence[Recipe], first: Store, second: Store) -> None:
    for recipe in recipes:
        ours, theirs = first.find(recipe), second.find(recipe)
        assert ours and theirs and same(ours, theirs), recipe


# The plan -----------------------------------------------------------------------------------------------------------


def test_teachers_come_before_tapes_and_tapes_before_the_students_that_share_them(store: Store) -> None:
    tape = Job("tape", TAUGHT)
    expected = {run(TEACHER): set(), tape: {run(TEACHER)}, run(TAUGHT): {tape}, run(BY_NKD): {tape}, run(ALONE): set()}
    assert remaining_jobs([TAUGHT, ALONE, BY_NKD], store) == expected
    assert remaining_jobs([TAUGHT, TAUGHT, ALONE, TEACHER, BY_NKD, ALONE], store) == expected


@pytest.mark.parametrize(
    "other",
    [
        replace(BY_NKD, seed=1),
        replace(BY_NKD, crop=1),
        replace(BY_NKD, precision="bf16"),
        replace(BY_NKD, teacher=replace(TEACHER, seed=1)),
        ALONE,
    ],
    ids=["seed", "crop", "precision", "teacher", "alone"],
)
def test_there_is_no_tape_for_a_single_student(other: Recipe, store: Store) -> None:
    graph = remaining_jobs([TAUGHT, other], store)
    assert {job.kind for job in graph} == {"run"}
    assert graph[run(TAUGHT)] == {run(TEACHER)}


def test_what_the_store_has_is_not_planned(store: Store) -> None:
    lkd.run(TEACHER, store=store)
    tape = Job("tape", TAUGHT)
    assert remaining_jobs([TEACHER, TAUGHT, BY_NKD], store) == {tape: set(), run(TAUGHT): {tape}, run(BY_NKD): {tape}}
    lkd.run(TAUGHT, store=store)
    assert remaining_jobs([TEACHER, TAUGHT, BY_NKD], store) == {run(BY_NKD): set()}
    lkd.run(BY_NKD, store=store)
    assert remaining_jobs([TEACHER, TAUGHT, BY_NKD], store) == {}


def test_pretrained_teachers_are_taped_but_not_trained(store: Store) -> None:
    first, second = replace(TAUGHT, teacher="resnet18"), replace(BY_NKD, teacher="resnet18")
    tape = Job("tape", first)
    assert remaining_jobs([first, second], store) == {tape: set(), run(first): {tape}, run(second): {tape}}


def test_teachers_of_teachers_come_first(store: Store) -> None:
    second = replace(ALONE, teacher=TAUGHT, objective="nkd")
    assert remaining_jobs([second], store) == {
        run(TEACHER): set(),
        run(TAUGHT): {run(TEACHER)},
        run(second): {run(TEACHER), run(TAUGHT)},
    }


@pytest.mark.parametrize(
    ("recipes", "workers", "message"),
    [
        ([replace(ALONE, batch_size=256)], 1, "batch_size 256 is more than the 128 training images"),
        ([TAUGHT, replace(TAUGHT, teacher="mini_slak")], 1, "teacher 'mini_slak' has no pretrained weights"),
        ([ALONE], 0, "workers must be at least 1, got 0"),
    ],
)
def test_what_cannot_work_is_refused_before_a_process_is_started(
    recipes: list[Recipe], workers: int, message: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "local_workers", lambda *_: pytest.fail("it started processes"))
    with pytest.raises(ValueError, match=message):
        execute_all(recipes, store, workers)


def test_a_study_that_is_there_starts_no_process(uninterrupted: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "local_workers", lambda *_: pytest.fail("it started processes"))
    assert [found.recipe for found in execute_all(STUDY, uninterrupted)] == list(STUDY)


# Processes ----------------------------------------------------------------------------------------------------------


def test_what_another_process_is_at_is_waited_for_only_when_nothing_else_is_ready(
    store: Store, uninterrupted: Store
) -> None:
    graph = remaining_jobs([TEACHER, ALONE], store)
    with store.lock(TEACHER.run_id):
        worker = Thread(target=work, args=(graph, store, Options()), daemon=True)
        worker.start()
        wait_until(lambda: store.find(ALONE) is not None)
        assert worker.is_alive() and store.find(TEACHER) is None
    worker.join(SECONDS)
    assert not worker.is_alive()
    assert_same([TEACHER, ALONE], store, uninterrupted)


@pytest.mark.parametrize(("named", "seen"), [(None, ["0", "1", "0"]), ("3,5", ["3", "5", "3"])])
def test_workers_share_out_the_gpus(
    named: str | None, seen: list[str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Worker:
        def __init__(self, target: object, args: tuple[object, ...]):
            started.append(args[-1])

        pid = None

        def start(self) -> None: ...

        is_alive = start

    monkeypatch.setattr(multiprocessing.get_context("spawn"), "Process", Worker)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named) if named else monkeypatch.delenv(
        "CUDA_VISIBLE_DEVICES", raising=False
    )
    graph = remaining_jobs(STUDY, store)
    with side_by_side.local_workers(graph, store, None, Options()):
        assert started == seen[:2]
    with side_by_side.local_workers(graph, store, 3, Options()):
        assert started[2:] == seen


def asleep(*_: object) -> None:
    """A worker that is at work for long."""
    time.sleep(SECONDS)


def test_an_interrupt_ends_all_workers_also_one_that_is_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_work_here", asleep)
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: multiprocessing.context.ForkContext())
    monkeypatch.setattr(ending, "_GRACE_SECONDS", 0.5)
    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt):
        with side_by_side.local_workers(remaining_jobs(STUDY, store), store, 2, Options()):
            workers = set(multiprocessing.active_children()) - before
            assert len(workers) == 2
            stop(workers.pop().pid)
            raise KeyboardInterrupt
    assert set(multiprocessing.active_children()) == before


@pytest.mark.slow
def test_a_failing_run_stops_none_but_its_own_students_and_is_tried_again_the_next_time(
    store: Store, uninterrupted: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "run", lambda *_: pytest.fail("the study's own process trained"))
    taught = replace(TAUGHT, teacher=DIVERGING)
    first, second = remaining_jobs([taught], store), remaining_jobs([ALONE], store)
    assert next(iter(first)).work > next(iter(second)).work, "the failing run does not come first"
    told = rf"1 of 3 jobs failed, and 1 runs need them\n{DIVERGING.run_id} .*mini_convnext_nano.*: FloatingPointError: "
    for _ in range(2):
        with pytest.raises(FailedRunsError, match=rf"{told}the loss is not finite in epoch 1, step 2"):
            execute_all([ALONE, taught], store, workers=1)
        assert store.find(DIVERGING) is None and store.find(taught) is None
        assert_same([ALONE], store, uninterrupted)
        told = told.replace("of 3", "of 2")


@pytest.mark.slow
def test_a_worker_that_dies_is_told_in_words(store: Store) -> None:
    before = set(multiprocessing.active_children())

    def kill() -> None:
        while not (workers := set(multiprocessing.active_children()) - before):
            time.sleep(0.1)
        os.kill(workers.pop().pid, signal.SIGKILL)

    Thread(target=kill, daemon=True).start()
    with pytest.raises(RuntimeError, match=r"a worker process died .*out of memory"):
        execute_all([ALONE], store, workers=1)


SCRIPT = """
import json, sys
from lkd import Recipe
from lkd.engine.workers import execute_all
from lkd.runs.store import Store

if __name__ == "__main__":
    execute_all([Recipe.from_dict(values) for values in json.loads(sys.argv[2])], Store(sys.argv[1]), workers=2)
"""


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def killed_in_the_middle(recipes: Sequence[Recipe], store: Store, script: Path) -> list[psutil.Process]:
    """Start a study in another process, kill that as soon as there is a run, and give the processes it had started."""
    script.write_text(SCRIPT)
    values = json.dumps([recipe.to_dict() for recipe in recipes])
    study = subprocess.Popen([sys.executable, str(script), str(store.folder), values])
    end = time.monotonic() + SECONDS
    while not list(store.folder.glob("runs/[!.]*")):
        assert study.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    workers = psutil.Process(study.pid).children(recursive=True)
    study.kill()
    study.wait()
    return workers


@pytest.mark.slow
def test_two_workers_killed_in_the_middle_end_in_the_numbers_of_one_process(
    tmp_path: Path, uninterrupted: Store
) -> None:
    store = Store(tmp_path / "killed")
    workers = killed_in_the_middle(STUDY, store, tmp_path / "study.py")
    assert len(workers) >= 2
    end = time.monotonic() + 30
    while any(map(alive, workers)):
        assert time.monotonic() < end, "workers outlive the process that started them"
        time.sleep(0.1)
    done = {path: path.stat().st_mtime_ns for path in store.folder.glob("runs/[!.]*/metrics.json")}
    assert 0 < len(done) < len(STUDY)
    runs = execute_all(STUDY, store, workers=2)
    assert [run.recipe for run in runs] == list(STUDY)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len(list((store.folder / "tapes").glob("[!.]*"))) == 1
    assert_same(STUDY, store, uninterrupted)
