"""Many recipes at once, in processes of one thread each: teachers before students, a tape before its readers."""

import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from multiprocessing.queues import SimpleQueue
from typing import Literal

import timm
import torch
from tqdm import tqdm

from lkd.checks import check_number
from lkd.data import load
from lkd.data.ahead import end_with_parent
from lkd.engine.recording import record_tape
from lkd.engine.run import carry_out
from lkd.engine.setting import Setting
from lkd.models.cost import cost
from lkd.progress import progress_bar
from lkd.recipe import Recipe
from lkd.store import Run, Store

_REPORT_SECONDS = 0.5
_BESIDES = 1_500_000
"""Multiply-accumulates in the time that norms, activations and copies of a mini network's forward pass take."""


@dataclass(frozen=True)
class Job:
    """One thing to do: a run, or the tape of a recipe's teacher."""

    kind: Literal["run", "tape"]
    recipe: Recipe

    @property
    def work(self) -> int:
        """About what it takes, in multiply-accumulates: a pass of the teacher for a tape, all of training for a run."""
        recipe = self.recipe
        images = recipe.epochs * (recipe.train_images or len(load(recipe.data, **recipe.view).train))
        return images * (_pass_of_teacher(recipe) if self.kind == "tape" else _training(recipe))


def carry_out_all(recipes: Sequence[Recipe], store: Store, workers: int | None = None) -> list[Run]:
    """The runs of the recipes; those that the store does not have, and those of their teachers, are carried out first.

    Args:
        recipes: what to run.
        store: where runs are looked for and kept.
        workers: processes; by default one for each CPU, or a single one where there is a GPU.

    Raises:
        ValueError: fewer than one worker.
        Exception: that of the first job that failed; what was finished stays in the store.
    """
    if workers is not None:
        check_number("workers", workers, 1)
    if graph := plan(recipes, store):
        _check(graph)
        _carry_out_graph(graph, store, workers)
    return [carry_out(recipe, store, {}) for recipe in recipes]


def _carry_out_graph(graph: dict[Job, set[Job]], store: Store, workers: int | None) -> None:
    workers = workers or (1 if torch.cuda.is_available() else os.cpu_count() or 1)
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    with (
        progress_bar(sum(job.work for job in graph)) as bar,
        ProcessPoolExecutor(min(workers, len(graph)), context, _start_worker, (queue,)) as pool,
    ):
        try:
            _schedule(graph, pool, store, queue, bar)
        except BrokenProcessPool as error:
            message = "a worker process died, perhaps for lack of memory: run again with fewer workers"
            raise RuntimeError(f"{message}; finished runs are kept") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def plan(recipes: Sequence[Recipe], store: Store) -> dict[Job, set[Job]]:
    """What is left to do for the recipes, and what each job waits for."""
    missing = [recipe for recipe in dict.fromkeys(recipes) if store.find(recipe) is None]
    readers = Counter(_tape_key(recipe) for recipe in missing)
    graph: dict[Job, set[Job]] = {}
    for recipe in missing:
        before = set()
        if isinstance(recipe.teacher, Recipe):
            teacher = plan([recipe.teacher], store)
            graph.update(teacher)
            before = set(teacher)
        if recipe.teacher is not None and readers[_tape_key(recipe)] > 1:
            tape = next(
                (job for job in graph if job.kind == "tape" and _tape_key(job.recipe) == _tape_key(recipe)), None
            )
            tape = tape or Job("tape", recipe)
            graph[tape] = before
            before = {tape}
        graph[Job("run", recipe)] = before
    return graph


def _tape_key(recipe: Recipe) -> tuple[object, ...]:
    return recipe.teacher, recipe.stream_id, recipe.precision, recipe.teacher_top_k, recipe.make_objective().stages


def _training(recipe: Recipe) -> int:
    """Work of a training image: forward, backward, and as much evaluation as a small data set brings along."""
    data = load(recipe.data, **recipe.view)
    evaluated = (len(data.val) + len(data.test)) / (recipe.epochs * (recipe.train_images or len(data.train)))
    return round(
        (3 + evaluated) * _pass(recipe.student, recipe.data, recipe.image_size, json.dumps(recipe.student_args))
    )


def _pass_of_teacher(recipe: Recipe) -> int:
    arguments = recipe.teacher.student_args if isinstance(recipe.teacher, Recipe) else {}
    return _pass(recipe.teacher_name or "", recipe.data, recipe.image_size, json.dumps(arguments))


@cache
@torch.random.fork_rng(devices=[])
def _pass(model: str, data: str, image_size: int, arguments: str) -> int:
    """Work of a forward pass: its multiply-accumulates, and what a small network costs a CPU besides these."""
    images = load(data, image_size=image_size)
    network = timm.create_model(model, in_chans=images.channels, **json.loads(arguments))
    counted = cost(network, images.channels, images.size)
    return counted.macs + _BESIDES


def _check(graph: dict[Job, set[Job]]) -> None:
    """Refuse, before any work, recipes whose networks do not fit their data."""
    names = ("data", "image_size", "student", "teacher", "objective", "train_images", "batch_size", "sparsity")
    arguments = ("sparse_scope", "student_args", "objective_args")
    different = {}
    for job in graph:
        texts = (json.dumps(getattr(job.recipe, name)) for name in arguments)
        different[(*(getattr(job.recipe, name) for name in names), *texts)] = job.recipe
    for recipe in different.values():
        Setting(recipe, {})


def _schedule(
    graph: dict[Job, set[Job]], pool: ProcessPoolExecutor, store: Store, queue: "SimpleQueue[int]", bar: "tqdm[None]"
) -> None:
    order = TopologicalSorter(graph)
    order.prepare()
    running: dict[Future[None], Job] = {}
    finished = 0
    while order.is_active():
        for job in sorted(order.get_ready(), key=lambda job: -job.work):
            running[pool.submit(_do, job, store)] = job
        done, _ = wait(running, timeout=_REPORT_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
            order.done(running.pop(future))
        finished += len(done)
        bar.set_description_str(f"{finished} of {len(graph)} jobs done", refresh=False)
        while not queue.empty():
            bar.update(queue.get())


_queue: "SimpleQueue[int]"


def _start_worker(queue: "SimpleQueue[int]") -> None:
    global _queue
    _queue = queue
    torch.set_num_threads(1)
    end_with_parent()


def _do(job: Job, store: Store) -> None:
    if job.kind == "tape":
        record_tape(job.recipe, store)
        _queue.put(job.work)
    else:
        carry_out(job.recipe, store, {}, progress=_Report(job.recipe))


class _Report:
    """Tells the study's process what has been done in this one, twice a second."""

    def __init__(self, recipe: Recipe):
        self.work = _training(recipe)
        self.done, self.sent = 0, time.monotonic()

    def __call__(self, images: int) -> None:
        self.done += images * self.work
        if time.monotonic() - self.sent > _REPORT_SECONDS:
            _queue.put(self.done)
            self.done, self.sent = 0, time.monotonic()
