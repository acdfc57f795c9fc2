"""Runs of a study trained in the process of the test, and copied from there."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from lkd.engine.jobs import Graph
from lkd.engine.options import Options
from lkd.engine.workers import Ended, work
from lkd.recipe import Recipe
from lkd.runs.store import Store


@contextmanager
def training_here(graph: Graph, store: Store, _: int | None, options: Options) -> Iterator[Ended]:
    """A single worker, in this process; shares the runs with other processes that work on the store."""
    threads = torch.get_num_threads()
    try:
        work(graph, store, options)
    finally:
        torch.set_num_threads(threads)
    yield lambda: True


def copy_runs(store: Store, home: Path, recipes: Sequence[Recipe]) -> None:
    """Copy the runs of recipes, and those of their teachers, to the store in another folder."""
    teachers = [recipe.teacher for recipe in recipes if isinstance(recipe.teacher, Recipe)]
    for recipe in dict.fromkeys([*recipes, *teachers]):
        path = store.path(recipe)
        shutil.copytree(path, home / "runs" / path.name, dirs_exist_ok=True)
