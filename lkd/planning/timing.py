"""Duration of jobs on this device, from a few timed steps of each kind of job in as many processes as will be used."""

import heapq
import math
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

import pandas as pd
import torch

from lkd.data import scheme, subset
from lkd.data.prefetch import end_with_parent
from lkd.engine.accelerators import processes, refuse_launcher
from lkd.engine.evaluate import evaluate
from lkd.engine.jobs import Graph, Job
from lkd.engine.options import Options
from lkd.engine.run import execute
from lkd.engine.setup import RunSetup
from lkd.engine.tape_tools import record_tape
from lkd.planning.data_shape import data_shape
from lkd.planning.work import JobWork, tape_of, teacher_recipe
from lkd.recipe import Recipe
from lkd.runs.provenance import provenance
from lkd.runs.store import Store
from lkd.util.temporary import temporary_folder

_FEWEST, _MOST = 4, 40
"""Bounds on the number of timed steps; the first step does not count."""

_EVALUATED = 8, 512
"""Bounds on the number of images in a timed evaluation."""

_GUESS = {"cpu": 4e10, "cuda": 5e12}
"""Assumed FLOP/s, used only to choose a batch that fits the time limit."""

_READING = 0.02
"""Assumed seconds to read and augment an image file, for the same choice."""

_NO_CHECKPOINT = Options(checkpoint_seconds=1e9)


@dataclass(frozen=True)
class Duration:
    """Estimated time of jobs on this device.

    Args:
        jobs: seconds of each job in one single-threaded process, with the other workers running.
        seconds: wall-clock total on all workers, including the start of the command and of its workers.
        batches: smallest timed batch size, by the recipe's batch size.
        share: mean share of a CPU that each process had during timing; below 1 if other programs were running.
    """

    jobs: Mapping[Job, float]
    seconds: float
    batches: Mapping[int, int]
    share: float


class Kind(NamedTuple):
    """Jobs with equal time per image, represented by one recipe; `taped` if they read a tape."""

    recipe: Recipe
    taped: bool


class Timing(NamedTuple):
    """Seconds of one kind of job.

    Args:
        check: to build its networks, before any job starts.
        setup: before the first step.
        image: per training image.
        evaluation: per evaluated image.
        ending: to save the run.
        tape_setup, tape_image: before the first batch and per image of its tape.
        batch: images in a timed step.
    """

    check: float
    setup: float
    image: float
    evaluation: float
    ending: float
    tape_setup: float
    tape_image: float
    batch: int

    def of(self, job: Job, work: JobWork) -> float:
        """Seconds of a job of this kind."""
        if job.kind == "tape":
            return self.tape_setup + work.images * self.tape_image
        return self.setup + work.images * self.image + work.evaluated * self.evaluation + self.ending

    @property
    def overhead(self) -> float:
        """Seconds that do not depend on the number of images."""
        return self.check + self.setup + self.ending + self.tape_setup


def estimate_duration(graphs: Sequence[Graph], work: Mapping[Job, JobWork], workers: int, seconds: float) -> Duration:
    """Estimate the duration of studies that run one after another.

    Args:
        graphs: remaining jobs of each study.
        work: work of each job.
        workers: number of parallel processes.
        seconds: approximate time limit of the measurement; at least four steps of each kind are timed.

    Raises:
        OSError: a measuring process died.
        ValueError: called in a process that a launcher such as torchrun started.
    """
    taped = {job: job.kind == "tape" or bool(tape_of(job, graph)) for graph in graphs for job in graph}
    kinds = {job: kind_of(job.recipe, taped[job]) for job in taped}
    flops = {kinds[job]: work[job].flops / work[job].images for job in taped if job.kind == "run"}
    began = time.time()
    found = _time_kinds(flops, min(workers, max(map(len, graphs))), seconds)
    start = max(each.started + each.warm_up for each in found.values()) - began
    timings = {kind: each.timing for kind, each in found.items()}
    jobs = {job: timings[kinds[job]].of(job, work[job]) for job in taped}
    checks = {kind.recipe: timing.check for kind, timing in timings.items()}
    total = start
    for graph in filter(None, graphs):
        checked = {(kind_of(job.recipe, False).recipe, job.recipe.teacher) for job in graph}
        total += start + sum(checks[recipe] for recipe, _ in checked) + makespan(graph, jobs, workers)
    batches: dict[int, int] = {}
    for kind, timing in timings.items():
        whole = kind.recipe.batch_size
        batches[whole] = min(timing.batch, batches.get(whole, whole))
    share = sum(each.cpu for each in found.values()) / sum(each.wall for each in found.values())
    return Duration(jobs, total, batches, share)


def makespan(graph: Graph, seconds: Mapping[Job, float], workers: int) -> float:
    """Seconds until the last job ends, if each free worker takes the next job with finished dependencies.

    Args:
        graph: jobs and their dependencies.
        seconds: duration of each job.
        workers: number of parallel processes.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.engine.jobs import Job
        >>> from lkd.planning.timing import makespan
        >>> first, second = (Job("run", Recipe(data="digits", student="mini_vit", seed=seed)) for seed in (0, 1))
        >>> makespan({first: set(), second: set()}, {first: 2.0, second: 3.0}, workers=2)
        3.0
        >>> makespan({first: set(), second: {first}}, {first: 2.0, second: 3.0}, workers=2)
        5.0
    """
    order = TopologicalSorter(graph)
    order.prepare()
    waiting: deque[Job] = deque()
    running: list[tuple[float, int, Job]] = []
    now, begun = 0.0, 0
    while order.is_active():
        waiting.extend(sorted(order.get_ready(), key=lambda job: -seconds[job]))
        while waiting and len(running) < workers:
            job, begun = waiting.popleft(), begun + 1
            heapq.heappush(running, (now + seconds[job], begun, job))
        now, _, job = heapq.heappop(running)
        order.done(job)
    return now


def kind_of(recipe: Recipe, taped: bool) -> Kind:
    """The kind of a recipe's jobs: the recipe without seeds, rates and lengths.

    Example:
        >>> from dataclasses import replace
        >>> from lkd import Recipe
        >>> from lkd.planning.timing import kind_of
        >>> recipe = Recipe(data="digits", student="mini_vit")
        >>> kind_of(recipe, False) == kind_of(replace(recipe, seed=1, epochs=9), False)
        True
    """
    if teacher := teacher_recipe(recipe):
        plain = Recipe(data=recipe.data, student=teacher.student, student_args=teacher.student_args, **recipe.view)
        recipe = replace(recipe, teacher=plain)
    recipe = replace(recipe, seed=0, epochs=1, train_images=None, stop_top1=None)
    return Kind(replace(recipe, lr=1e-3, warmup=0.15, schedule="cosine", schedule_args={}), taped)


class _Timed(NamedTuple):
    """A timing, the worker's start-up time, its warm-up cost, and CPU and wall-clock seconds of the timing."""

    timing: Timing
    started: float
    warm_up: float
    cpu: float
    wall: float


def _time_kinds(flops: Mapping[Kind, float], workers: int, seconds: float) -> dict[Kind, _Timed]:
    """Time each kind, given its FLOP per training image, in parallel processes of one thread."""
    refuse_launcher("a plan that measures")
    limit = seconds * workers / (2 * len(flops))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        futures = {kind: pool.submit(_timed, kind, count, limit) for kind, count in flops.items()}
        try:
            return {kind: future.result() for kind, future in futures.items()}
        except BrokenProcessPool as error:
            raise OSError(
                f"one of {workers} measuring processes died, perhaps for lack of memory: use fewer workers, or plan "
                "without measuring"
            ) from error


_startup: tuple[float, float] | None = None
"""When this worker received its first job, and its warm-up cost."""


def _start_worker() -> None:
    torch.set_num_threads(1)
    end_with_parent()


def _timed(kind: Kind, flops: float, limit: float) -> _Timed:
    """Time a kind in this worker; its first kind is timed twice to find the warm-up cost."""
    global _startup
    now = time.time()
    first = _time(kind, flops, 0) if _startup is None else None
    wall, cpu = time.perf_counter(), time.process_time()
    timing = _time(kind, flops, limit)
    if first:
        _startup = now, max(0.0, first.overhead - timing.overhead)
    assert _startup
    return _Timed(timing, *_startup, time.process_time() - cpu, time.perf_counter() - wall)


def _time(kind: Kind, flops: float, limit: float) -> Timing:
    with temporary_folder() as folder:
        store, recipe = Store(folder), _recipe_to_time(kind, flops, limit)
        if isinstance(recipe.teacher, Recipe):
            _save_untrained(RunSetup(recipe.teacher, {}), store)
        start = time.perf_counter()
        setup = RunSetup(recipe, {})
        check = time.perf_counter() - start
        tape = _tape_seconds(recipe, setup.stream.steps, store) if kind.taped else (0.0, 0.0)
        training = _training_seconds(recipe, setup.stream.steps, store, limit)
        evaluation = _evaluation_seconds(setup, limit)
        ending = _seconds(lambda: _save_untrained(setup, store))
        return Timing(check, *training, evaluation, ending, *tape, recipe.batch_size)


def _recipe_to_time(kind: Kind, flops: float, limit: float) -> Recipe:
    """A recipe of a few steps of a kind, with the largest batch that fits the time limit."""
    recipe, shape = kind.recipe, data_shape(kind.recipe).shape
    assert shape
    image = flops / _GUESS["cuda" if torch.cuda.is_available() else "cpu"] + _READING * bool(scheme(recipe.data))
    most = min(int(limit / (_FEWEST * image)), shape.train // _FEWEST)
    if recipe.batch_size > most:
        most = max(2, min(most, recipe.batch_size // recipe.accumulation) // 2 * 2)
        recipe = replace(recipe, batch_size=most, accumulation=1)
    steps = shape.train // recipe.batch_size
    if not kind.taped:
        return replace(recipe, epochs=1 + math.ceil(_MOST / steps))
    steps = min(steps, _MOST, max(_FEWEST, int(limit / (image * recipe.batch_size))))
    return replace(recipe, train_images=steps * recipe.batch_size)


def _save_untrained(setup: RunSetup, store: Store) -> None:
    store.save(setup.recipe, setup.network(), setup.shape, {}, pd.DataFrame(), provenance())


def _tape_seconds(recipe: Recipe, steps: int, store: Store) -> tuple[float, float]:
    """Seconds of a tape before its first batch and per image, from tapes of one batch and of all."""
    one = _seconds(lambda: record_tape(replace(recipe, train_images=recipe.batch_size), store))
    image = max(0.0, _seconds(lambda: record_tape(recipe, store)) - one) / ((steps - 1) * recipe.batch_size)
    return max(0.0, one - image * recipe.batch_size), image


class _Enough(Exception):
    """Enough steps have been timed."""


class _Clock:
    """A progress callback that records the time of each step and stops the training after enough of them."""

    def __init__(self, limit: float, most: int):
        self.limit, self.most, self.times = limit, most, [time.perf_counter()]

    def __call__(self, images: int) -> None:
        self.times.append(time.perf_counter())
        steps = len(self.times) - 1
        if steps == self.most or (steps >= _FEWEST and self.times[-1] - self.times[1] > self.limit):
            raise _Enough


def _training_seconds(recipe: Recipe, steps: int, store: Store, limit: float) -> tuple[float, float]:
    """Seconds of a training before its first step and per image, without the first step of an epoch."""
    clock = _Clock(limit, min(_MOST, recipe.epochs * steps))
    with suppress(_Enough):
        execute(recipe, store, {}, resume=False, options=_NO_CHECKPOINT, progress=clock)
    start, *times = clock.times
    step = fmean(later - before for number, (before, later) in enumerate(pairwise(times), 1) if number % steps)
    return max(0.0, times[0] - start - step), step / recipe.batch_size


def _evaluation_seconds(setup: RunSetup, limit: float) -> float:
    """Seconds per evaluated image."""
    network, val = setup.network().to(processes().device), setup.data.val
    few, many = _EVALUATED
    first = min(few, len(val))
    seconds = _seconds(lambda: evaluate(network, setup.data, subset(val, first, seed=0)))
    count = min(len(val), many, max(first, int(first * limit / (_FEWEST * seconds))))
    return _seconds(lambda: evaluate(network, setup.data, subset(val, count, seed=0))) / count


def _seconds(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start
