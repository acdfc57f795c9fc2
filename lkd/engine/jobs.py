"""The remaining jobs of many recipes: runs and tapes, their order and estimated work."""

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
from lkd.engine.setup import RunSetup
from lkd.engine.trial_step import trial_step
from lkd.models.cost import cost
from lkd.recipe import Recipe
from lkd.runs.store import Store

_OVERHEAD = 1_500_000
"""Multiply-accumulates equivalent in time to the norms, activations and copies of a mini network's forward pass."""


@dataclass(frozen=True)
class Job:
    """A run, or the tape of a recipe's teacher."""

    kind: Literal["run", "tape"]
    recipe: Recipe

    @property
    def name(self) -> str:
        """The job's name in the store: the run's id, or a digest of the tape's key."""
        if self.kind == "run":
            return self.recipe.run_id
        return f"tape-{hashlib.sha256(repr(tape_key(self.recipe)).encode()).hexdigest()[:16]}"

    @property
    def work(self) -> int:
        """Estimated multiply-accumulates: of the teacher for a tape, of training and evaluation for a run."""
        recipe = self.recipe
        images = recipe.epochs * (recipe.train_images or len(load(recipe.data, **recipe.view).train))
        return images * (_pass_of_teacher(recipe) if self.kind == "tape" else training_work(recipe))


Graph = Mapping[Job, set[Job]]
"""Jobs in the order in which they start, each with the jobs it waits for."""


def remaining_jobs(recipes: Sequence[Recipe], store: Store) -> dict[Job, set[Job]]:
    """The remaining jobs of the recipes and their teachers, each with the jobs it waits for."""
    missing = [recipe for recipe in dict.fromkeys(recipes) if store.find(recipe) is None]
    readers = Counter(tape_key(recipe) for recipe in missing)
    graph: dict[Job, set[Job]] = {}
    for recipe in missing:
        before = set()
        if isinstance(recipe.teacher, Recipe):
            teacher = remaining_jobs([recipe.teacher], store)
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
    """A key that recipes share if they can read the same tape."""
    teacher = getattr(recipe.teacher, "run_id", recipe.teacher)
    return teacher, recipe.stream_id, recipe.precision, recipe.teacher_top_k, recipe.make_objective().teacher_maps


def training_work(recipe: Recipe) -> int:
    """Estimated multiply-accumulates per training image: forward, backward, and the final evaluation."""
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
    """Estimated work of a forward pass: its multiply-accumulates, and the overhead of a small network on a CPU."""
    images = load(data, image_size=image_size)
    network = timm.create_model(model, in_chans=images.channels, **json.loads(arguments))
    counted = cost(network, images.channels, images.size)
    return counted.macs + _OVERHEAD


def check_jobs(graph: Graph, trial_steps: bool) -> None:
    """Refuse recipes that cannot be trained, before any work.

    Args:
        trial_steps: also run a trial step of each student that waits for its teacher; for workers on this machine.
    """
    different = {_without_seeds(job.recipe): job for job in graph if job.kind == "run"}
    for job in different.values():
        setup = RunSetup(job.recipe, {})
        if trial_steps and graph[job]:
            trial_step(setup)


def _without_seeds(recipe: Recipe) -> str:
    """A key that recipes share if they differ only in their seeds."""
    values = recipe.to_dict()
    teacher = values["teacher"]
    return json.dumps(
        {**values, "seed": 0, "teacher": {**teacher, "seed": 0} if isinstance(teacher, dict) else teacher}
    )
