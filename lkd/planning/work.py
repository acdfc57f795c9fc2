"""The work of recipes: steps, images and floating-point operations, without any measurement."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lkd.engine.jobs import Job
from lkd.engine.jobs import plan as jobs_left
from lkd.engine.optimizer import STOP_CHECK_STEPS
from lkd.engine.teacher_check import checked_images
from lkd.engine.trainer import EPOCH_IMAGES, STOP_CHECK_IMAGES
from lkd.planning.data_shape import Shape, data_shape
from lkd.planning.gpus import UTILISATION, seconds_on
from lkd.planning.network_cost import NetworkCost, network_cost
from lkd.recipe import Recipe
from lkd.runs.store import Store
from lkd.util.checks import check_whole

Graph = dict[Job, set[Job]]
"""Jobs of a study, and what each waits for."""

_TRAINING = 3
"""Passes that forward and backward together count for: the backward pass multiplies with weights and with inputs."""


class JobWork(NamedTuple):
    """What a job has to do.

    Args:
        steps: of the optimizer; of a tape, batches.
        images: that are trained on, or of which a tape is made.
        evaluated: images that the student is evaluated on.
        flops: floating-point operations, two for each multiply-accumulate.
    """

    steps: int
    images: int
    evaluated: int
    flops: int


def graphs(studies: Iterable[Sequence[Recipe]], store: Store | None = None) -> list[Graph]:
    """What studies that are carried out one after the other leave to do, each job in the first that needs it.

    Args:
        studies: recipes of each, which are carried out side by side.
        store: where runs may be done already; None for nowhere.
    """
    store = store or Store(os.devnull)
    made: list[Graph] = []
    planned: set[Job] = set()
    for recipes in studies:
        graph = jobs_left([recipe for recipe in recipes if Job("run", recipe) not in planned], store)
        made.append({job: before - planned for job, before in graph.items() if job not in planned})
        planned |= set(graph)
    return made


def tape_of(job: Job, graph: Graph) -> Job | None:
    """The tape that a run of a study reads."""
    return next((before for before in graph[job] if before.kind == "tape"), None)


def work_of(job: Job, taped: bool) -> JobWork | None:
    """What a job has to do; None where the size of its data is not known.

    A training image takes three forward passes of the student, backward pass included, and, where no tape is read, one
    of the teacher; an evaluated one takes one of the student. The teacher is evaluated on some images before its
    student learns. A tape takes one of the teacher for each image of the stream. A training that stops at an accuracy
    is taken to go on to its end: it takes at most this.

    Args:
        job: a run, or a tape of a recipe's teacher.
        taped: whether the run reads a tape.

    Raises:
        ValueError: more training images than the data has, or a batch of more than these.

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
    steps = _images(recipe, shape) // recipe.batch_size
    images = recipe.epochs * steps * recipe.batch_size
    teacher = teacher_anatomy(recipe, shape)
    if job.kind == "tape":
        assert teacher
        return JobWork(recipe.epochs * steps, images, 0, 2 * images * teacher.macs)
    looks = (steps - 1) // STOP_CHECK_STEPS if recipe.stop_top1 is not None else 0
    watched = recipe.epochs * (min(shape.val, EPOCH_IMAGES) + looks * min(shape.val, STOP_CHECK_IMAGES))
    evaluated = watched + shape.val + shape.test
    own = network_cost(recipe, shape).macs
    taught = (min(shape.val, checked_images(shape.classes)) + (0 if taped else images)) * teacher.macs if teacher else 0
    return JobWork(recipe.epochs * steps, images, evaluated, 2 * ((_TRAINING * images + evaluated) * own + taught))


def _images(recipe: Recipe, shape: Shape) -> int:
    """How many images a recipe trains on; refused as they are when it is run."""
    if (recipe.train_images or 0) > shape.train:
        raise ValueError(
            f"train_images {recipe.train_images} is more than the {shape.train} of {recipe.data!r}: lower it"
        )
    count = recipe.train_images or shape.train
    if recipe.batch_size > count:
        raise ValueError(f"batch_size {recipe.batch_size} is more than the {count} training images: lower batch_size")
    return count


def teacher_anatomy(recipe: Recipe, shape: Shape) -> NetworkCost | None:
    """What the teacher of a recipe takes; None where there is none."""
    stages = recipe.make_objective().stages
    if (teacher := as_recipe(recipe)) is None:
        return None
    return network_cost(teacher, shape, stages)


def as_recipe(recipe: Recipe) -> Recipe | None:
    """A recipe whose student is built as the teacher of another is; None where there is none."""
    if isinstance(recipe.teacher, str):
        return Recipe(data=recipe.data, student=recipe.teacher, **recipe.view)
    return recipe.teacher


@dataclass(frozen=True)
class Work:
    """What some jobs have to do together.

    Args:
        steps: of the optimizer, and batches of tapes.
        images: that are trained on, or of which tapes are made.
        half, single: floating-point operations of recipes in bf16 or fp16, and in float32.
    """

    steps: int
    images: int
    half: int
    single: int

    @property
    def flops(self) -> int:
        """Floating-point operations, two for each multiply-accumulate."""
        return self.half + self.single

    def hours_on(self, gpu: str, utilisation: float = UTILISATION, gpus: int = 1) -> float:
        """Hours that this takes on GPUs of a kind, all of them at work all the time.

        Hours are the floating-point operations over `gpus` times `utilisation` times the GPU's peak rate, bf16's or
        float32's (TF32) as the recipes have it. An estimate: networks as small as this book's never reach 0.3 of the
        peak, and reading images may take longer.

        Args:
            gpu: a key of `lkd.planning.GPUS`.
            utilisation: share of the peak rate.
            gpus: how many.

        Raises:
            KeyError: an unknown GPU.
            TypeError, ValueError: a share or number that makes no sense.

        Example:
            >>> from lkd.planning import Work
            >>> Work(steps=1, images=1, half=0, single=int(156e12 * 0.5 * 3600)).hours_on("a100", utilisation=0.5)
            1.0
        """
        check_whole("gpus", gpus, 1)
        parts = (seconds_on(gpu, flops, half, utilisation) for half, flops in ((True, self.half), (False, self.single)))
        return sum(parts) / (3600 * gpus)


def work(*studies: Sequence[Recipe], store: Store | None = None) -> Work | None:
    """What studies have to do, teachers and tapes included; None where the size of their data is not known.

    Args:
        studies: recipes of each, which are carried out side by side.
        store: where runs may be done already; by default, all is counted.

    Example:
        >>> from lkd.planning import work
        >>> from lkd.study import schedule_lengths
        >>> found = work(schedule_lengths("smoke").recipes)
        >>> found.images, found.hours_on("a100") < 0.01
        (11008, True)
    """
    each = [(job, work_of(job, bool(tape_of(job, graph)))) for graph in graphs(studies, store) for job in graph]
    return summed(each)


def summed(each: Sequence[tuple[Job, JobWork | None]]) -> Work | None:
    """The work of jobs together; None where that of one is not known."""
    known_ones = [(job, does) for job, does in each if does is not None]
    if len(known_ones) < len(each):
        return None
    flops = {half: sum(_of_precision(known_ones, half)) for half in (True, False)}
    return Work(
        sum(does.steps for _, does in known_ones), sum(does.images for _, does in known_ones), flops[True], flops[False]
    )


def _of_precision(each: Iterable[tuple[Job, JobWork]], half: bool) -> Iterator[int]:
    return (does.flops for job, does in each if (job.recipe.precision != "no") is half)
