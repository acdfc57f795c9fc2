"""What is left to do for many recipes: runs and tapes, and about what each takes."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import timm
import torch

from lkd.data import load
from lkd.engine.rehearsal import rehearse
from lkd.engine.setup import RunSetup
from lkd.models.cost import cost
from lkd.recipe import Recipe
from lkd.runs.store import Store

_BESIDES = 1_500_000
"""Multiply-accumulates in the time that norms, activations and copies of a mini network's forward pass take."""


@dataclass(frozen=True)
class Job:
    """One thing to do: a run, or the tape of a recipe's teacher."""

    kind: Literal["run", "tape"]
    recipe: Recipe

    @property
    def name(self) -> str:
        """What it is called in the store: the run's id, or what a tape depends on."""
        if self.kind == "run":
            return self.recipe.run_id
        return f"tape-{hashlib.sha256(repr(tape_key(self.recipe)).encode()).hexdigest()[:16]}"

    @property
    def work(self) -> int:
        """About what it takes, in multiply-accumulates: a pass of the teacher for a tape, all of training for a run."""
        recipe = self.recipe
        images = recipe.epochs * (recipe.train_images or len(load(recipe.data, **recipe.view).train))
        return images * (_pass_of_teacher(recipe) if self.kind == "tape" else training_work(recipe))


Graph = Mapping[Job, set[Job]]
"""What is to be done, and what each job waits for; what is begun first comes first."""


def plan(recipes: Sequence[Recipe], store: Store) -> dict[Job, set[Job]]:
    """What is left to do for the recipes, and what each job waits for."""
    missing = [recipe for recipe in dict.fromkeys(recipes) if store.find(recipe) is None]
    readers = Counter(tape_key(recipe) for recipe in missing)
    graph: dict[Job, set[Job]] = {}
    for recipe in missing:
        before = set()
        if isinstance(recipe.teacher, Recipe):
            teacher = plan([recipe.teacher], store)
            graph.update(teacher)
            before = set(teacher)
        if recipe.teacher is not None and readers[tape_key(recipe)] > 1:
            tape = next((job for job in graph if job.kind == "tape" and tape_key(job.recipe) == tape_key(recipe)), None)
            tape = tape or Job("tape", recipe)
            graph[tape] = before
            before = {tape}
        graph[Job("run", recipe)] = before
    return graph


def tape_key(recipe: Recipe) -> tuple[object, ...]:
    """Equal for recipes that can read the same tape."""
    teacher = getattr(recipe.teacher, "run_id", recipe.teacher)
    return teacher, recipe.stream_id, recipe.precision, recipe.teacher_top_k, recipe.make_objective().stages


def training_work(recipe: Recipe) -> int:
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


def check(graph: Graph, rehearsed: bool) -> None:
    """Refuse, before any work, recipes that cannot be trained.

    Args:
        graph: what is to be done.
        rehearsed: make a step of training with each student that waits for its teacher; for workers on this machine.
    """
    different = {_checked_alike(job.recipe): job for job in graph if job.kind == "run"}
    for job in different.values():
        setup = RunSetup(job.recipe, {})
        if rehearsed and graph[job]:
            rehearse(setup)


def _checked_alike(recipe: Recipe) -> str:
    """Equal for recipes that differ in their seeds alone."""
    values = recipe.to_dict()
    teacher = values["teacher"]
    return json.dumps(
        {**values, "seed": 0, "teacher": {**teacher, "seed": 0} if isinstance(teacher, dict) else teacher}
    )
