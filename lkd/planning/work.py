"""Work, memory and disk space of jobs, counted without any measurement."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from lkd.engine.jobs import Graph, Job, remaining_jobs, tape_key
from lkd.engine.optimizer import STOP_CHECK_STEPS
from lkd.engine.run import OPTIMIZER_STATES, run_bytes
from lkd.engine.tape import bytes_needed, read_manifest, recipe_of
from lkd.engine.teacher_check import check_image_count
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
        """Hours on fully occupied GPUs, from their peak rates; low for small networks, and where reading is slow.

        Args:
            gpu: a key of `lkd.planning.GPUS`.
            utilisation: share of the peak rate.
            gpus: number of GPUs.

        Raises:
            KeyError: an unknown GPU.
            TypeError, ValueError: an invalid `utilisation` or `gpus`.

        Example:
            >>> from lkd.planning import Work
            >>> Work(steps=1, images=1, half=0, single=int(19.5e12 * 0.5 * 3600)).hours_on("a100", utilisation=0.5)
            1.0
        """
        check_whole("gpus", gpus, 1)
        seconds = seconds_on(gpu, self.half, True, utilisation) + seconds_on(gpu, self.single, False, utilisation)
        return seconds / (3600 * gpus)


class Memory(NamedTuple):
    """Bytes that a process needs to train a student.

    Python, PyTorch, in-memory data sets and the operators' temporary buffers are not included. On a CPU in float32,
    measured peaks were 1.1 times (resnet18 at 64 pixels) and 1.5 times this (mini_slak, a batch of 256).

    Args:
        weights, gradients: of the student; `weights` includes its buffers.
        optimizer: two tensors per weight, as in Adam.
        average: the weight average (EMA), if any.
        activations: saved by autograd for one micro-batch; counted in float32, and halved for bf16 and fp16.
        teacher: weights of the teacher.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    teacher: int

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self)


def work(*studies: Sequence[Recipe], store: Store | None = None) -> Work | None:
    """Work of studies, teachers and tapes included; None if the size of their data is unknown.

    Args:
        studies: recipes of each study.
        store: leave out the finished runs of this store; by default, everything counts.

    Example:
        >>> from lkd.planning import work
        >>> from lkd.study import schedule_lengths
        >>> found = work(schedule_lengths("smoke").recipes)
        >>> found.images, found.hours_on("a100") < 0.01
        (11008, True)
    """
    graphs = job_graphs(studies, store)
    return total_work({job: work_of(job, is_taped(job, graph)) for graph in graphs for job in graph})


def total_work(work: Mapping[Job, JobWork | None]) -> Work | None:
    """Total work of jobs; None if the work of any job is unknown."""
    known = [(job.recipe.precision, each) for job, each in work.items() if each is not None]
    if len(known) < len(work):
        return None
    steps, images = sum(each.steps for _, each in known), sum(each.images for _, each in known)
    single = sum(each.flops for precision, each in known if precision == "no")
    return Work(steps, images, sum(each.flops for _, each in known) - single, single)


def job_graphs(studies: Iterable[Sequence[Recipe]], store: Store | None = None) -> list[Graph]:
    """Remaining jobs of studies that run one after another, each job in the first study that needs it."""
    store = store or Store(os.devnull)
    graphs: list[Graph] = []
    planned: set[Job] = set()
    for recipes in studies:
        graph = remaining_jobs([recipe for recipe in recipes if Job("run", recipe) not in planned], store)
        graphs.append({job: before - planned for job, before in graph.items() if job not in planned})
        planned |= set(graph)
    return graphs


def is_taped(job: Job, graph: Graph) -> bool:
    """Whether a job is a tape, or a run that reads one."""
    return job.kind == "tape" or any(before.kind == "tape" for before in graph[job])


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
    steps, teacher = _steps(recipe, shape), _teacher_cost(recipe, shape)
    total, images = recipe.epochs * steps, recipe.epochs * steps * recipe.batch_size
    teacher_pass = teacher.macs if teacher else 0
    if job.kind == "tape":
        return JobWork(total, images, 0, 2 * images * teacher_pass)
    stop_checks = (steps - 1) // STOP_CHECK_STEPS if recipe.stop_top1 is not None else 0
    monitored = recipe.epochs * (min(shape.val, EPOCH_IMAGES) + stop_checks * min(shape.val, STOP_CHECK_IMAGES))
    evaluated, checked = monitored + shape.val + shape.test, min(shape.val, check_image_count(shape.classes))
    macs = (_TRAINING * images + evaluated) * network_cost(recipe, shape).macs
    return JobWork(total, images, evaluated, 2 * (macs + (checked + (0 if taped else images)) * teacher_pass))


def memory(recipe: Recipe, processes: int = 1) -> Memory | None:
    """Memory of each process that runs a recipe; None if the size of its data is unknown.

    Args:
        processes: number of processes that share each batch.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.planning import memory
        >>> memory(Recipe(data="digits", student="mini_resnet")).optimizer
        158480
    """
    if (shape := data_shape(recipe).shape) is None:
        return None
    student, teacher = network_cost(recipe, shape), _teacher_cost(recipe, shape)
    micro_batch = -(-recipe.batch_size // (recipe.accumulation * processes))
    activations = micro_batch * student.activation_bytes
    return Memory(
        weights=student.state_bytes,
        gradients=student.parameter_bytes,
        optimizer=OPTIMIZER_STATES * student.parameter_bytes,
        average=student.state_bytes if recipe.ema else 0,
        activations=activations if recipe.precision == "no" else activations // 2,
        teacher=teacher.state_bytes if teacher else 0,
    )


def disk(job: Job) -> tuple[int, int] | None:
    """Bytes of a job on the disk: kept, and of checkpoints while it trains; None if the size of its data is unknown."""
    recipe, shape = job.recipe, data_shape(job.recipe).shape
    if shape is None:
        return None
    if job.kind == "run":
        return run_bytes(recipe, network_cost(recipe, shape).state_bytes)
    teacher, images = _teacher_cost(recipe, shape), _steps(recipe, shape) * recipe.batch_size
    assert teacher
    form = {"classes": shape.classes, "top_k": recipe.teacher_top_k, "maps": teacher.maps}
    return bytes_needed({"epochs": recipe.epochs, "samples": images, **form}), 0


def recorded_tape_keys(store: Store) -> Iterator[tuple[object, ...]]:
    """Yield the `tape_key` of each complete tape of a store; warn of damaged ones."""
    for path in (store.folder / "tapes").glob("[!.]*/manifest.json"):
        try:
            manifest = read_manifest(path.parent)
        except (OSError, ValueError) as error:
            warnings.warn(str(error), stacklevel=2)
            continue
        if manifest.get("complete") and (recipe := recipe_of(manifest)):
            yield tape_key(recipe)


@cache
def teacher_network(recipe: Recipe) -> Recipe | None:
    """A recipe that trains the teacher's network from labels, with the student's settings; None without a teacher."""
    if not recipe.teacher:
        return None
    name = (recipe.teacher_name or "").partition(".")[0]  # without the tag of pretrained weights
    arguments = recipe.teacher.student_args if isinstance(recipe.teacher, Recipe) else {}
    return replace(recipe.baseline, student=name, student_args=arguments, sparsity=0.0)


def _teacher_cost(recipe: Recipe, shape: Shape) -> NetworkCost | None:
    teacher = teacher_network(recipe)
    return network_cost(teacher, shape, recipe.make_objective().teacher_maps) if teacher else None


def _steps(recipe: Recipe, shape: Shape) -> int:
    """Number of steps in an epoch, checked as in training."""
    count = recipe.train_images or shape.train
    if count > shape.train:
        raise ValueError(f"train_images {count} is more than the {shape.train} of {recipe.data!r}: lower it")
    if recipe.batch_size > count:
        raise ValueError(f"batch_size {recipe.batch_size} is more than the {count} training images: lower batch_size")
    return count // recipe.batch_size
