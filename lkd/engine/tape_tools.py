"""Record tapes before the students that read them, and verify tapes."""

import math
import random
from typing import NamedTuple

from accelerate import Accelerator

from lkd.engine.accelerators import fork_accelerator_state, make_accelerator
from lkd.engine.options import Options
from lkd.engine.run import prepare_teacher
from lkd.engine.setup import RunSetup
from lkd.engine.tape import Tape, TapedTeacher
from lkd.engine.teacher import FrozenTeacher, TopKTeacher, weights_hash
from lkd.engine.teacher_source import make_tape
from lkd.engine.trainer import micro_batches
from lkd.recipe import Recipe
from lkd.runs.store import Store
from lkd.util.files import reading
from lkd.util.torch_defaults import torch_defaults

_ROUNDING = {"no": 1e-5, "bf16": 2**-6, "fp16": 2**-9}
"""Tolerance relative to the largest output, by precision, when the same images are batched differently."""


class Verified(NamedTuple):
    """The largest difference between a tape's records and the teacher's outputs, and the tolerance for rounding."""

    difference: float
    rounding: float


@torch_defaults()
@fork_accelerator_state()
def record_tape(recipe: Recipe, store: Store, options: Options | None = None) -> Tape:
    """Record the outputs of a recipe's teacher along the recipe's stream; only missing records are computed."""
    options = options or Options()
    setup, teacher, accelerator = _prepared(recipe, store, options)
    tape = make_tape(setup, teacher, store)
    if not tape.complete:
        taped = TapedTeacher(tape, teacher)
        for epoch in range(recipe.epochs):
            for batch in setup.stream.batches(epoch, workers=options.workers):
                for part in micro_batches(batch, recipe.accumulation, accelerator.device):
                    with accelerator.autocast():
                        taped(epoch, part)
        tape.finish()
    return tape


@torch_defaults()
@fork_accelerator_state()
def verify_tape(tape: Tape, store: Store, batches: int = 4, seed: int = 0) -> Verified:
    """Compare a tape's records with the teacher's outputs on random batches of the stream.

    In float32, on the same machine and with the same number of processes, they are bit-identical.

    Args:
        store: the store with the teacher's run.
        batches: number of batches.
        seed: seed of their random choice.

    Raises:
        ValueError: a recipe from another version of lkd; a teacher with other weights; a missing or damaged record
            (names epoch and position).
    """
    remedy = f"use the version of lkd that wrote it, or remove {tape.folder}"
    with reading(tape.folder / "manifest.json", "manifest of a tape of this version of lkd", remedy):
        recipe, weights = Recipe.from_stored(tape.manifest["recipe"]), tape.manifest["teacher"]
    if isinstance(recipe.teacher, Recipe) and store.find(recipe.teacher) is None:
        raise ValueError(
            f"the teacher of tape {tape.folder.name} is missing: the store does not have run {recipe.teacher.run_id}"
        )
    setup, teacher, accelerator = _prepared(recipe, store, Options())
    if weights_hash(teacher.model) != weights:
        raise ValueError(f"tape {tape.folder.name} was recorded from other weights of teacher {recipe.teacher_name!r}")
    source = teacher if tape.top_k is None else TopKTeacher(teacher, tape.top_k)
    difference, scale, draw = 0.0, 0.0, random.Random(seed)
    for _ in range(batches):
        epoch, step = draw.randrange(recipe.epochs), draw.randrange(setup.stream.steps)
        for part in micro_batches(setup.stream.batch(epoch, step), recipe.accumulation, accelerator.device):
            if (taped := tape.read(epoch, part)) is None:
                first = int(part.positions[0])
                raise ValueError(
                    f"tape {tape.folder.name} has no intact records of epoch {epoch + 1} from position {first} on"
                )
            with accelerator.autocast():
                current = source(epoch, part)
            for now, recorded in zip((current.logits, *current.maps), (taped.logits, *taped.maps), strict=True):
                error = (now.float() - recorded).abs().max().item()
                difference = max(difference, error) if math.isfinite(error) else math.inf
                scale = max(scale, now.abs().max().item())
    return Verified(difference, _ROUNDING[recipe.precision] * scale)


def _prepared(recipe: Recipe, store: Store, options: Options) -> tuple[RunSetup, FrozenTeacher, Accelerator]:
    setup = RunSetup(recipe, {})
    teacher = prepare_teacher(setup, store, options)
    assert teacher is not None
    accelerator = make_accelerator(recipe.precision)  # after the teacher's training, which has its own
    teacher.model.to(accelerator.device)
    return setup, teacher, accelerator
