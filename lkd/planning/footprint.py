"""The memory and disk that jobs take."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

from lkd.engine.jobs import Job, tape_key
from lkd.engine.run import OPTIMIZER_STATES, run_bytes
from lkd.engine.tape import bytes_needed, read_manifest, recipe_of
from lkd.planning.data_shape import data_shape
from lkd.planning.network_cost import network_cost
from lkd.planning.work import teacher_anatomy, work_of
from lkd.recipe import Recipe
from lkd.runs.store import Store


class Memory(NamedTuple):
    """Bytes that a process needs to train a student.

    Besides these there are Python and PyTorch themselves, the images of a data set that lies in memory, and what
    operators need for the time of their work: on a CPU, measured peaks of two networks in float32 were 1.1 (resnet18 at
    64 pixels) and 1.5 times this (mini_slak, a batch of 256).

    Args:
        weights: of the student, with its buffers.
        gradients: of its weights.
        optimizer: two tensors for each weight, as Adam has them.
        average: of the weights, where there is one.
        activations: what autograd keeps of the images that go through the student at once; counted on a network without
            data in float32, and half of that in bf16 and fp16.
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
        """All of it."""
        return sum(self)


class Disk(NamedTuple):
    """Bytes that a job takes of the store's disk: for good, and while a run is trained."""

    kept: int
    checkpoints: int


def memory(recipe: Recipe, processes: int = 1) -> Memory | None:
    """What a process needs that carries out a recipe; None where the size of its data is not known.

    Args:
        recipe: which.
        processes: that share each batch.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.planning import memory
        >>> memory(Recipe(data="digits", student="mini_resnet")).optimizer
        158480
    """
    if (shape := data_shape(recipe).shape) is None:
        return None
    own, teacher = network_cost(recipe, shape), teacher_anatomy(recipe, shape)
    at_once = -(-recipe.batch_size // (recipe.accumulation * processes))
    activations = at_once * own.activation_bytes
    return Memory(
        weights=own.state_bytes,
        gradients=own.parameter_bytes,
        optimizer=OPTIMIZER_STATES * own.parameter_bytes,
        average=own.state_bytes if recipe.ema else 0,
        activations=activations if recipe.precision == "no" else activations // 2,
        teacher=teacher.state_bytes if teacher else 0,
    )


def disk(job: Job) -> Disk | None:
    """What a job takes of the store's disk; None where the size of its data is not known."""
    recipe, shape, does = job.recipe, data_shape(job.recipe).shape, work_of(job, taped=True)
    if shape is None or does is None:
        return None
    if job.kind == "run":
        return Disk(*run_bytes(recipe, network_cost(recipe, shape).state_bytes))
    teacher = teacher_anatomy(recipe, shape)
    assert teacher
    form = {"classes": shape.classes, "top_k": recipe.teacher_top_k, "maps": teacher.maps}
    return Disk(bytes_needed({"epochs": 1, "samples": does.images, **form}), 0)


def recorded(store: Store) -> Iterator[tuple[object, ...]]:
    """`tape_key` of each complete tape of a store; warns of a damaged one."""
    for path in (store.folder / "tapes").glob("[!.]*/manifest.json"):
        try:
            manifest = read_manifest(path.parent)
        except (OSError, ValueError) as error:
            warnings.warn(str(error), stacklevel=2)
            continue
        if manifest.get("complete") and (recipe := recipe_of(manifest)):
            yield tape_key(recipe)
