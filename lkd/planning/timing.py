"""Duration of jobs on this device, from some timed steps of each network in as many processes as will be used."""

import heapq
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from graphlib import TopologicalSorter
from itertools import repeat
from statistics import fmean
from timeit import timeit
from typing import Any, NamedTuple

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
from lkd.planning.data_shape import data_shape
from lkd.planning.network_cost import network_cost
from lkd.planning.work import JobWork, is_taped, teacher_network
from lkd.recipe import Recipe
from lkd.runs.provenance import provenance
from lkd.runs.store import Store
from lkd.util.temporary import temporary_folder

_MIN_STEPS, _MAX_STEPS = 4, 40
"""Bounds on the number of timed steps; the first step does not count."""

_ASSUMED_FLOPS = {"cpu": 4e10, "cuda": 5e12}
"""Assumed FLOP/s, used only to choose a batch that fits the time limit."""

_ASSUMED_READING = 0.02
"""Assumed seconds to read and augment an image file, for the same choice."""


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


class _Timing(NamedTuple):
    """Seconds per run, per training image and per evaluated image; images in a timed step; share of a CPU."""

    run: float
    training: float
    forward: float
    batch: int
    share: float


def estimate_duration(graphs: Sequence[Graph], work: Mapping[Job, JobWork], workers: int, seconds: float) -> Duration:
    """Estimate the duration of studies that run one after another.

    The time of a job is the training and evaluation of the student, plus a forward pass of the teacher for each image,
    unless a tape is read. The time to start the workers and to check each kind of job is added.

    Args:
        graphs: remaining jobs of each study.
        work: work of each job.
        workers: number of parallel processes.
        seconds: approximate time limit of the measurement; some steps of each network are timed in any case.

    Raises:
        OSError: a measuring process died.
        ValueError: called in a process that a launcher such as torchrun started.
    """
    networks = {job: _networks(job.recipe) for graph in graphs for job in graph}
    timed = list(dict.fromkeys(network for each in networks.values() for network in each))
    start, timings = _time_all(timed, min(workers, max(map(len, graphs))), seconds)
    total, jobs = start, {}
    for graph in filter(None, graphs):
        for job in graph:
            jobs[job] = _job_seconds(job, work[job], [timings[each] for each in networks[job]], is_taped(job, graph))
        checked = {(networks[job][0], job.recipe.teacher_name, job.recipe.objective) for job in graph}
        total += start + sum(timings[network].run for network, *_ in checked) + makespan(graph, jobs, workers)
    batches: dict[int, int] = {}
    for network, timing in timings.items():
        whole = network.batch_size
        batches[whole] = min(timing.batch, batches.get(whole, whole))
    return Duration(jobs, total, batches, fmean(timing.share for timing in timings.values()))


def makespan(graph: Graph, seconds: Mapping[Job, float], workers: int) -> float:
    """Seconds until the last job ends, if each free worker takes the longest job with finished dependencies.

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
    order, now = TopologicalSorter(graph), 0.0
    order.prepare()
    waiting: list[Job] = []
    running: list[tuple[float, str, Job]] = []
    while order.is_active():
        waiting = sorted([*waiting, *order.get_ready()], key=seconds.__getitem__)
        while waiting and len(running) < workers:
            job = waiting.pop()
            heapq.heappush(running, (now + seconds[job], job.name, job))
        now, _, job = heapq.heappop(running)
        order.done(job)
    return now


def _networks(recipe: Recipe) -> list[Recipe]:
    """Recipes that train the student, and the teacher if there is one, from labels with equal seed and length."""
    alike: dict[str, Any] = {"seed": 0, "epochs": 1, "train_images": None, "stop_top1": None}
    alike |= {"lr": 1e-3, "warmup": 0.15, "schedule": "cosine", "schedule_args": {}}
    return [replace(each.baseline, **alike) for each in (recipe, teacher_network(recipe)) if each]


def _job_seconds(job: Job, work: JobWork, networks: Sequence[_Timing], taped: bool) -> float:
    student, *teacher = networks
    own = 0.0 if job.kind == "tape" else work.images * student.training + work.evaluated * student.forward
    teacher_pass = sum(each.forward for each in teacher) if job.kind == "tape" or not taped else 0.0
    return student.run + own + work.images * teacher_pass


def _time_all(networks: Sequence[Recipe], workers: int, seconds: float) -> tuple[float, dict[Recipe, _Timing]]:
    """Seconds to start and warm up parallel processes of one thread, and timings of networks in them."""
    refuse_launcher("a plan that measures")
    limit = seconds * workers / (2 * len(networks))
    shortened = [_shortened(network, limit) for network in networks]
    begun = time.perf_counter()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker) as pool:
        try:
            list(pool.map(_time, repeat(_shortened(networks[0], 0.0), workers), repeat(0.0)))
            start = time.perf_counter() - begun
            return start, dict(zip(networks, pool.map(_time, shortened, repeat(limit)), strict=True))
        except BrokenProcessPool as error:
            raise OSError(
                f"one of {workers} measuring processes died, perhaps for lack of memory: use fewer workers, or plan "
                "without measuring"
            ) from error


def _shortened(recipe: Recipe, limit: float) -> Recipe:
    """A recipe of a few steps, with the largest batch for which `_MIN_STEPS` steps take at most `limit` seconds."""
    shape = data_shape(recipe).shape
    assert shape
    speed = _ASSUMED_FLOPS["cuda" if torch.cuda.is_available() else "cpu"]
    image = 6 * network_cost(recipe, shape).macs / speed + _ASSUMED_READING * bool(scheme(recipe.data))
    most = min(int(limit / (_MIN_STEPS * image)), shape.train // _MIN_STEPS)
    if recipe.batch_size > most:
        most = max(2, min(most, recipe.batch_size // recipe.accumulation) // 2 * 2)
        recipe = replace(recipe, batch_size=most, accumulation=1)
    return replace(recipe, train_images=min(_MAX_STEPS, shape.train // recipe.batch_size) * recipe.batch_size)


def _start_worker() -> None:
    torch.set_num_threads(1)
    end_with_parent()


def _time(recipe: Recipe, limit: float) -> _Timing:
    """Time the steps of a recipe until a number of seconds has passed, and an evaluation."""
    begun, cpu = time.perf_counter(), time.process_time()
    with temporary_folder() as folder:
        setup, store = RunSetup(recipe, {}), Store(folder)
        first, training = _training_seconds(recipe, store, limit)
        network, val = setup.network().to(processes().device), setup.data.val
        val = subset(val, min(len(val), _MIN_STEPS * recipe.batch_size), seed=0)
        forward = timeit(lambda: evaluate(network, setup.data, val), number=1) / len(val)
        save = partial(store.save, recipe, network, setup.shape, {}, pd.DataFrame(), provenance())
        run = first + timeit(save, number=1)
    share = (time.process_time() - cpu) / (time.perf_counter() - begun)
    return _Timing(run, training, forward, recipe.batch_size, share)


class _Enough(Exception):
    """Enough steps have been timed."""


def _training_seconds(recipe: Recipe, store: Store, limit: float) -> tuple[float, float]:
    """Seconds of a training before its first step, and per image of the other steps."""
    times = [time.perf_counter()]

    def record(images: int) -> None:
        times.append(time.perf_counter())
        last = (len(times) - 1) * recipe.batch_size == recipe.train_images
        if last or (len(times) > _MIN_STEPS and times[-1] - times[1] > limit):
            raise _Enough

    with suppress(_Enough):
        execute(recipe, store, {}, resume=False, options=Options(checkpoint_seconds=1e9), progress=record)
    step = (times[-1] - times[1]) / max(1, len(times) - 2)
    return max(0.0, times[1] - times[0] - step), step / recipe.batch_size
