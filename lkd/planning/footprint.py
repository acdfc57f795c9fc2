"""Memory and disk space of jobs."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

from lkd.engine.jobs import Job, tape_key
from lkd.engine.run import OPTIMIZER_STATES, run_bytes
from lkd.engine.tape import bytes_needed, read_manifest, recipe_of
from lkd.planning.data_shape import data_shape
from lkd.planning.network_cost import network_cost
from lkd.planning.work import teacher_cost, work_of
from lkd.recipe import Recipe
from lkd.runs.store import Store


class Memory(NamedTuple):
    """Bytes that a process needs to train a student.

    Python, PyTorch, in-memory data sets and the operators' temporary buffers are not included. On a CPU, measured peaks
    of two networks in float32 were 1.1 (resnet18 at 64 pixels) and 1.5 times this (mini_slak, a batch of 256).

    Args:
        weights: of the student, with its buffers.
        gradients: of its weights.
        optimizer: two tensors per weight, as in Adam.
        average: the weight average (EMA), if any.
        activations: saved by autograd for one micro-batch; counted in float32, and halved for bf16 and fp16.
        teacher: its weights.
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


class Disk(NamedTuple):
    """Bytes of a job in the store: kept, and of checkpoints while a run is in training."""

    kept: int
    checkpoints: int


def memory(recipe: Recipe, processes: int = 1) -> Memory | None:
    """Memory of each process that runs a recipe; None if the size of its data is unknown.

    Args:
        recipe: the recipe.
        processes: number of processes that share each batch.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.planning import memory
        >>> memory(Recipe(data="digits", student="mini_resnet")).optimizer
        158480
    """
    if (shape := data_shape(recipe).shape) is None:
        return None
    student, teacher = network_cost(recipe, shape), teacher_cost(recipe, shape)
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


def disk(job: Job) -> Disk | None:
    """Disk space of a job; None if the size of its data is unknown."""
    recipe, shape, work = job.recipe, data_shape(job.recipe).shape, work_of(job, taped=True)
    if shape is None or work is None:
        return None
    if job.kind == "run":
        return Disk(*run_bytes(recipe, network_cost(recipe, shape).state_bytes))
    teacher = teacher_cost(recipe, shape)
    assert teacher
    form = {"classes": shape.classes, "top_k": recipe.teacher_top_k, "maps": teacher.maps}
    return Disk(bytes_needed({"epochs": 1, "samples": work.images, **form}), 0)


def recorded(store: Store) -> Iterator[tuple[object, ...]]:
    """Yield the `tape_key` of each complete tape of a store; warn of damaged ones."""
    for path in (store.folder / "tapes").glob("[!.]*/manifest.json"):
        try:
            manifest = read_manifest(path.parent)
        except (OSError, ValueError) as error:
            warnings.warn(str(error), stacklevel=2)
            continue
        if manifest.get("complete") and (recipe := recipe_of(manifest)):
            yield tape_key(recipe)
