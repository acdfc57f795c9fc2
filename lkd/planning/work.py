"""Work of recipes: steps, images and floating-point operations, counted without any measurement."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lkd.engine.jobs import Graph, Job
from lkd.engine.jobs import plan as remaining_jobs
from lkd.engine.optimizer import STOP_CHECK_STEPS
from lkd.engine.teacher_check import checked_images
from lkd.engine.trainer import EPOCH_IMAGES, STOP_CHECK_IMAGES
from lkd.planning.data_shape import Shape, data_shape
from lkd.planning.gpus import UTILISATION, seconds_on
from lkd.planning.network_cost import NetworkCost, network_cost
from lkd.recipe import Recipe
from lkd.runs.store import Store
from lkd.util.checks import check_whole

_TRAINING = 3
"""Cost of a training step in forward passes: the backward pass multiplies with weights and with inputs."""


class JobWork(NamedTuple):
    """Work of a job.

    Args:
        steps: optimizer steps of a run, or batches of a tape.
        images: images trained on, or recorded on a tape.
        evaluated: images that the student is evaluated on.
        flops: floating-point operations, two per multiply-accumulate.
    """

    steps: int
    images: int
    evaluated: int
    flops: int


@dataclass(frozen=True)
class Work:
    """Total work of several jobs.

    Args:
        steps: optimizer steps, and batches of tapes.
        images: images trained on, or recorded on tapes.
        half, single: floating-point operations of recipes in bf16 or fp16, and in float32.
    """

    steps: int
    images: int
    half: int
    single: int

    @property
    def flops(self) -> int:
        """Floating-point operations, two per multiply-accumulate."""
        return self.half + self.single

    def hours_on(self, gpu: str, utilisation: float = UTILISATION, gpus: int = 1) -> float:
        """Estimate the hours on fully occupied GPUs.

        Hours are the floating-point operations divided by `gpus` times `utilisation` times the GPU's peak rate, bf16's
        or float32's (TF32) according to each recipe. The estimate is low for networks as small as this book's, which
        do not reach 0.3 of the peak, and where reading images is the bottleneck.

        Args:
            gpu: a key of `lkd.planning.GPUS`.
            utilisation: share of the peak rate.
            gpus: number of GPUs.

        Raises:
            KeyError: an unknown GPU.
            TypeError, ValueError: an invalid `utilisation` or `gpus`.

        Example:
            >>> from lkd.planning import Work
            >>> Work(steps=1, images=1, half=0, single=int(156e12 * 0.5 * 3600)).hours_on("a100", utilisation=0.5)
            1.0
        """
        check_whole("gpus", gpus, 1)
        seconds = seconds_on(gpu, self.half, True, utilisation) + seconds_on(gpu, self.single, False, utilisation)
        return seconds / (3600 * gpus)


def work(*studies: Sequence[Recipe], store: Store | None = None) -> Work | None:
    """Work of studies, teachers and tapes included; None if the size of their data is unknown.

    Args:
        studies: recipes of each study.
        store: a store whose finished runs are left out; by default, everything counts.

    Example:
        >>> from lkd.planning import work
        >>> from lkd.study import schedule_lengths
        >>> found = work(schedule_lengths("smoke").recipes)
        >>> found.images, found.hours_on("a100") < 0.01
        (11008, True)
    """
    return total_work(
        {job: work_of(job, bool(tape_of(job, graph))) for graph in job_graphs(studies, store) for job in graph}
    )


def job_graphs(studies: Iterable[Sequence[Recipe]], store: Store | None = None) -> list[Graph]:
    """Remaining jobs of studies that run one after another, each job in the first study that needs it.

    Args:
        studies: recipes of each study.
        store: a store that may have runs already; None for an empty one.
    """
    store = store or Store(os.devnull)
    graphs: list[Graph] = []
    planned: set[Job] = set()
    for recipes in studies:
        graph = remaining_jobs([recipe for recipe in recipes if Job("run", recipe) not in planned], store)
        graphs.append({job: before - planned for job, before in graph.items() if job not in planned})
        planned |= set(graph)
    return graphs


def tape_of(job: Job, graph: Graph) -> Job | None:
    """The tape that a run reads, if any."""
    return next((before for before in graph[job] if before.kind == "tape"), None)


def work_of(job: Job, taped: bool) -> JobWork | None:
    """Work of a job; None if the size of its data is unknown.

    A training image costs three forward passes of the student (backward pass included) and, without a tape, one of the
    teacher. An evaluated image costs one pass of the student. A tape costs one pass of the teacher per image. The check
    of the teacher on some validation images is included. A training with `stop_top1` counts in full: an upper bound.

    Args:
        job: a run, or the tape of a recipe's teacher.
        taped: whether the run reads a tape.

    Raises:
        ValueError: more training images than the data has, or a batch larger than the training set.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.engine.jobs import Job
        >>> from lkd.planning import work_of
        >>> work_of(Job("run", Recipe(data="digits", student="mini_resnet", train_images=128, epochs=2)), False).steps
        4
    """
    recipe, shape = job.recipe, data_shape(job.recipe).shape
    if shape is None:
        return None
    steps = _train_images(recipe, shape) // recipe.batch_size
    images = recipe.epochs * steps * recipe.batch_size
    teacher = teacher_cost(recipe, shape)
    if job.kind == "tape":
        assert teacher
        return JobWork(recipe.epochs * steps, images, 0, 2 * images * teacher.macs)
    looks = (steps - 1) // STOP_CHECK_STEPS if recipe.stop_top1 is not None else 0
    watched = recipe.epochs * (min(shape.val, EPOCH_IMAGES) + looks * min(shape.val, STOP_CHECK_IMAGES))
    evaluated = watched + shape.val + shape.test
    macs = (_TRAINING * images + evaluated) * network_cost(recipe, shape).macs
    if teacher:
        macs += (min(shape.val, checked_images(shape.classes)) + (0 if taped else images)) * teacher.macs
    return JobWork(recipe.epochs * steps, images, evaluated, 2 * macs)


def total_work(work: Mapping[Job, JobWork | None]) -> Work | None:
    """Total work of jobs; None if that of any job is unknown."""
    known = [(job.recipe.precision != "no", each) for job, each in work.items() if each is not None]
    if len(known) < len(work):
        return None
    return Work(
        steps=sum(each.steps for _, each in known),
        images=sum(each.images for _, each in known),
        half=sum(each.flops for half, each in known if half),
        single=sum(each.flops for half, each in known if not half),
    )


def teacher_cost(recipe: Recipe, shape: Shape) -> NetworkCost | None:
    """Cost of a recipe's teacher, if it has one."""
    teacher = teacher_recipe(recipe)
    return network_cost(teacher, shape, recipe.make_objective().stages) if teacher else None


def teacher_recipe(recipe: Recipe) -> Recipe | None:
    """A recipe whose student is the teacher's network; None without a teacher."""
    if isinstance(recipe.teacher, str):
        return Recipe(data=recipe.data, student=recipe.teacher, **recipe.view)
    return recipe.teacher


def _train_images(recipe: Recipe, shape: Shape) -> int:
    """Number of training images, checked as in training."""
    count = recipe.train_images or shape.train
    if count > shape.train:
        raise ValueError(f"train_images {count} is more than the {shape.train} of {recipe.data!r}: lower it")
    if recipe.batch_size > count:
        raise ValueError(f"batch_size {recipe.batch_size} is more than the {count} training images: lower batch_size")
    return count
