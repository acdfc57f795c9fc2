"""How long jobs take on this device: real steps of each kind of job, in as many processes as will be at work."""

import math
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

import pandas as pd
import torch

from lkd.data import scheme, subset
from lkd.data.prefetch import end_with_parent
from lkd.engine.accelerators import processes, refuse_launcher
from lkd.engine.evaluate import evaluate
from lkd.engine.jobs import Job
from lkd.engine.options import Options
from lkd.engine.run import execute
from lkd.engine.setup import RunSetup
from lkd.engine.tape_tools import record_tape
from lkd.planning.data_shape import data_shape
from lkd.planning.work import JobWork, as_recipe
from lkd.recipe import Recipe
from lkd.runs.provenance import provenance
from lkd.runs.store import Store
from lkd.util.temporary import temporary_folder

_FEWEST, _MOST = 4, 40
"""Steps that are timed of a kind of job; the first of them does not count."""

_EVALUATED = 8, 512
"""Images, at least and at most, whose evaluation is timed."""

_GUESS = {"cpu": 4e10, "cuda": 5e12}
"""FLOP/s by which the batch is chosen that can be timed; no figure that is shown depends on it."""

_READING = 0.02
"""Seconds to read and augment an image in a file, for the same choice."""

_NO_CHECKPOINT = Options(checkpoint_seconds=1e9)


@dataclass(frozen=True)
class Kind:
    """Jobs that take equally long by the image.

    Args:
        recipe: of one of them.
        taped: whether it reads a tape; what making that tape takes is then timed as well.
    """

    recipe: Recipe
    taped: bool


class Timing(NamedTuple):
    """Seconds that a kind of job takes.

    Args:
        check: to look at its networks before any job is begun.
        setup: before the first step.
        image: for each image that is trained on.
        judged: for each image that is evaluated.
        ending: to save the run.
        tape_setup, tape_image: the same of the tape that it reads.
        batch: images of the steps that were timed.
    """

    check: float
    setup: float
    image: float
    judged: float
    ending: float
    tape_setup: float
    tape_image: float
    batch: int

    def of(self, job: Job, does: JobWork) -> float:
        """Seconds that a job of this kind takes."""
        if job.kind == "tape":
            return self.tape_setup + does.images * self.tape_image
        return self.setup + does.images * self.image + does.evaluated * self.judged + self.ending

    @property
    def around(self) -> float:
        """Seconds of a job that do not grow with its images."""
        return self.check + self.setup + self.ending + self.tape_setup


class Timings(NamedTuple):
    """What was timed.

    Args:
        start: seconds until processes are at work, with what each has to do once.
        share: of a CPU that each process had, on average; below 1 where other programs were at work as well.
        kinds: of each kind.
    """

    start: float
    share: float
    kinds: Mapping[Kind, Timing]


def kind_of(recipe: Recipe, taped: bool) -> Kind:
    """Which jobs take equally long as those of a recipe, whatever their seeds, rates and lengths.

    Example:
        >>> from dataclasses import replace
        >>> from lkd import Recipe
        >>> from lkd.planning.timing import kind_of
        >>> recipe = Recipe(data="digits", student="mini_vit")
        >>> kind_of(recipe, False) == kind_of(replace(recipe, seed=1, epochs=9), False)
        True
    """
    if teacher := as_recipe(recipe):
        plain = Recipe(data=recipe.data, student=teacher.student, student_args=teacher.student_args, **recipe.view)
        recipe = replace(recipe, teacher=plain)
    recipe = replace(recipe, seed=0, epochs=1, train_images=None, stop_top1=None)
    return Kind(replace(recipe, lr=1e-3, warmup=0.15, schedule="cosine", schedule_args={}), taped)


def time_kinds(flops: Mapping[Kind, float], workers: int, seconds: float) -> Timings:
    """Time a few real steps of each kind of job, in `workers` processes of one thread side by side.

    Networks have new weights, teachers too. Nothing is written outside a temporary folder. Where a batch would take too
    long, a smaller one is timed. At least four steps of each kind are made, however long that takes.

    Args:
        flops: of each kind, those of a training image.
        workers: as many processes as will carry out the jobs.
        seconds: about how long the steps of all of them may take.

    Raises:
        OSError: a process died.
        ValueError: a process that a launcher such as torchrun has started.
    """
    refuse_launcher("a plan that measures")
    start, patience = time.time(), seconds * workers / (2 * len(flops))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        futures = {kind: pool.submit(_timed, kind, count, patience) for kind, count in flops.items()}
        try:
            found = {kind: future.result() for kind, future in futures.items()}
        except BrokenProcessPool as error:
            raise OSError(
                f"one of {workers} processes that measured died, perhaps for lack of memory: give fewer workers, or "
                "plan without measuring"
            ) from error
    ready = max(each.begun + each.once - start for each in found.values())
    share = sum(each.cpu for each in found.values()) / sum(each.wall for each in found.values())
    return Timings(ready, share, {kind: each.timing for kind, each in found.items()})


class _Found(NamedTuple):
    """A timing; when the process that made it came to its first job, and what of that one took longer than later."""

    timing: Timing
    begun: float
    once: float
    cpu: float
    wall: float


_begun: tuple[float, float] | None = None


def _start_worker() -> None:
    torch.set_num_threads(1)
    end_with_parent()


def _timed(kind: Kind, flops: float, patience: float) -> _Found:
    """The timing of a kind, and this process's own start; its first kind is timed twice for that."""
    global _begun
    now = time.time()
    first = _time(kind, flops, 0) if _begun is None else None
    wall, cpu = time.perf_counter(), time.process_time()
    timing = _time(kind, flops, patience)
    if first:
        _begun = now, max(0.0, first.around - timing.around)
    assert _begun
    return _Found(timing, *_begun, time.process_time() - cpu, time.perf_counter() - wall)


def _time(kind: Kind, flops: float, patience: float) -> Timing:
    with temporary_folder() as folder:
        store, recipe = Store(folder), _to_time(kind, flops, patience)
        _put_teacher(recipe, store)
        start = time.perf_counter()
        setting = RunSetup(recipe, {})
        check = time.perf_counter() - start
        tape = _tape_seconds(recipe, setting.stream.steps, store) if kind.taped else (0.0, 0.0)
        training = _training_seconds(recipe, setting.stream.steps, store, patience)
        judged = _evaluation_seconds(setting, patience)
        start = time.perf_counter()
        store.save(recipe, setting.network(), setting.shape, {}, pd.DataFrame(), provenance())
        ending = time.perf_counter() - start
        return Timing(check, *training, judged, ending, *tape, recipe.batch_size)


def _to_time(kind: Kind, flops: float, patience: float) -> Recipe:
    """The recipe of a few steps of a kind, with as large a batch as there is time for."""
    recipe, shape = kind.recipe, data_shape(kind.recipe).shape
    assert shape
    image = flops / _GUESS["cuda" if torch.cuda.is_available() else "cpu"] + _READING * bool(scheme(recipe.data))
    most = min(int(patience / (_FEWEST * image)), shape.train // _FEWEST)
    if recipe.batch_size > most:
        most = max(2, min(most, recipe.batch_size // recipe.accumulation) // 2 * 2)
        recipe = replace(recipe, batch_size=most, accumulation=1)
    steps = shape.train // recipe.batch_size
    if not kind.taped:
        return replace(recipe, epochs=1 + math.ceil(_MOST / steps))
    steps = min(steps, _MOST, max(_FEWEST, int(patience / (image * recipe.batch_size))))
    return replace(recipe, train_images=steps * recipe.batch_size)


def _put_teacher(recipe: Recipe, store: Store) -> None:
    """Let a store have the teacher of a recipe, as it is before training."""
    if isinstance(recipe.teacher, Recipe):
        setting = RunSetup(recipe.teacher, {})
        store.save(recipe.teacher, setting.network(), setting.shape, {}, pd.DataFrame(), provenance())


def _tape_seconds(recipe: Recipe, steps: int, store: Store) -> tuple[float, float]:
    """What a tape takes before its first batch, and for each image: that of one batch beside that of all."""
    one = _seconds(lambda: record_tape(replace(recipe, train_images=recipe.batch_size), store))
    image = max(0.0, _seconds(lambda: record_tape(recipe, store)) - one) / ((steps - 1) * recipe.batch_size)
    return max(0.0, one - image * recipe.batch_size), image


class _Enough(Exception):
    """Steps enough have been timed."""


class _Clock:
    """Notes when each step has been made, and ends the training when there are enough."""

    def __init__(self, patience: float, most: int):
        self.patience, self.most, self.times = patience, most, [time.perf_counter()]

    def __call__(self, images: int) -> None:
        self.times.append(time.perf_counter())
        made = len(self.times) - 1
        if made == self.most or (made >= _FEWEST and self.times[-1] - self.times[1] > self.patience):
            raise _Enough


def _training_seconds(recipe: Recipe, steps: int, store: Store, patience: float) -> tuple[float, float]:
    """What a training takes before its first step, and for each image, the first step of an epoch aside."""
    clock = _Clock(patience, min(_MOST, recipe.epochs * steps))
    with suppress(_Enough):
        execute(recipe, store, {}, resume=False, options=_NO_CHECKPOINT, progress=clock)
    start, *made = clock.times
    step = fmean(later - before for number, (before, later) in enumerate(pairwise(made), 1) if number % steps)
    return max(0.0, made[0] - start - step), step / recipe.batch_size


def _evaluation_seconds(setting: RunSetup, patience: float) -> float:
    """What the evaluation of an image takes."""
    network, val = setting.network().to(processes().device), setting.data.val
    few, many = _EVALUATED
    first = min(few, len(val))
    seconds = _seconds(lambda: evaluate(network, setting.data, subset(val, first, seed=0)))
    count = min(len(val), many, max(first, int(first * patience / (_FEWEST * seconds))))
    return _seconds(lambda: evaluate(network, setting.data, subset(val, count, seed=0))) / count


def _seconds(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start
