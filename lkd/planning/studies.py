"""The plan of studies: what they ask for, what is there, and what is left to do."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch

from lkd.engine.jobs import Job, tape_key
from lkd.planning.data_shape import data_shape, forget, lacking_weights
from lkd.planning.duration import Duration, timed
from lkd.planning.footprint import disk, memory, recorded
from lkd.planning.gpus import UTILISATION, seconds_on
from lkd.planning.report import Plan
from lkd.planning.work import JobWork, graphs, summed, tape_of, work_of
from lkd.recipe import Recipe
from lkd.runs.store import Store
from lkd.util.checks import check_number, check_whole

MEASURE = 30.0
"""Seconds for which steps are timed, where nothing else is asked."""

_CELL = ["role", "model", "teacher", "objective", "pixels", "batch"]
_SUMS = ["jobs", "left", "steps", "images", "TFLOP", "hours", "disk MiB"]
_MIB = 2**20


def plan(
    *studies: Sequence[Recipe],
    title: str = "plan",
    store: Store | None = None,
    workers: int | None = None,
    measure: float | None = MEASURE,
    gpu: str = "a100",
    utilisation: float = UTILISATION,
    gpus: int = 1,
    missing: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Plan:
    """Say what studies take before anything is run; nothing is written to the store, and nothing fetched.

    Args:
        studies: recipes of each, carried out side by side; one study after the other.
        title: what is planned.
        store: where runs may be done already; by default the store in this machine's home.
        workers: processes side by side; by default one for each CPU, or a single one where there is a GPU.
        measure: about how many seconds steps are timed on this device; None for not at all.
        gpu: the GPU that hours are estimated for, a key of `lkd.planning.GPUS`.
        utilisation: share of its peak that is reached.
        gpus: how many share each batch.
        missing: what else is not at hand, each with its remedy.
        notes: what figures leave out, a sentence each.

    Raises:
        KeyError: an unknown GPU.
        TypeError, ValueError: no recipe, or a number that makes no sense.

    Example:
        >>> from lkd.planning import plan
        >>> from lkd.study import schedule_lengths
        >>> found = plan(schedule_lengths("smoke", seeds=[0]).recipes, measure=None)
        >>> found.counts["teachers"], found.counts["distilled"]
        (3, 6)
    """
    _check(studies, workers, measure, gpus)
    forget()
    seconds_on(gpu, 0, False, utilisation)
    store = store or Store()
    workers = workers or (1 if torch.cuda.is_available() else os.cpu_count() or 1)
    left = graphs(studies, store)
    made = set(recorded(store))
    entries = [
        *_runs([recipe for study in studies for recipe in study], left),
        *(
            _Entry(job, "tape", tape_key(job.recipe) not in made)
            for graph in left
            for job in graph
            if job.kind == "tape"
        ),
    ]
    does = {entry.job: entry.work for entry in entries if any(entry.job in graph for graph in left)}
    lacking = sorted({lack for job in does if (lack := data_shape(job.recipe).lacking)})
    duration = None
    if measure is not None and does and not lacking:
        duration = timed(left, {job: work for job, work in does.items() if work}, workers, measure)
    work = summed(list(does.items()))
    space = _space([entry for entry in entries if entry.left], store, workers)
    return Plan(
        title=title,
        runs=pd.DataFrame([entry.listed for entry in entries if entry.job.kind == "run"]),
        frame=_frame(entries, duration, gpus),
        work=work,
        workers=workers,
        duration=duration,
        gpu=gpu,
        utilisation=utilisation,
        gpus=gpus,
        disk=space,
        missing=(*lacking, *_lacking(does, space, store), *missing),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Entry:
    """A job that is asked for: what it is for, whether it is left to do, and whether it reads a tape."""

    job: Job
    role: str
    left: bool
    taped: bool = False

    @cached_property
    def work(self) -> JobWork | None:
        """What is left to do."""
        return work_of(self.job, self.taped) if self.left else JobWork(0, 0, 0, 0)

    @property
    def who(self) -> dict[str, Any]:
        """The columns that say who learns from whom."""
        recipe, shape = self.job.recipe, data_shape(self.job.recipe).shape
        is_run = self.job.kind == "run"
        return {
            "role": self.role,
            "model": recipe.student if is_run else "",
            "teacher": recipe.teacher_name or "",
            "objective": recipe.objective if is_run and recipe.teacher else "",
            "pixels": shape.size[0] if shape else None,
            "batch": recipe.batch_size,
        }

    @property
    def listed(self) -> dict[str, Any]:
        """A row of the list of runs."""
        recipe = self.job.recipe
        length = {"epochs": recipe.epochs, "train_images": recipe.train_images, "seed": recipe.seed}
        return {"run_id": recipe.run_id, **self.who, **length, "stored": not self.left}


def _check(studies: Sequence[Sequence[Recipe]], workers: int | None, measure: float | None, gpus: int) -> None:
    if not any(studies):
        raise ValueError("there is no recipe to plan: give at least one")
    if workers is not None:
        check_whole("workers", workers, 1)
    if measure is not None:
        check_number("measure", measure, 0, above=True)
    check_whole("gpus", gpus, 1)


def _runs(recipes: Sequence[Recipe], left: Sequence[dict[Job, set[Job]]]) -> Iterator[_Entry]:
    """Each run that is asked for, teachers too."""
    asked: dict[Recipe, None] = {}
    for recipe in recipes:
        chain = [recipe]
        while isinstance(chain[0].teacher, Recipe):
            chain.insert(0, chain[0].teacher)
        asked |= dict.fromkeys(chain)
    teachers = {recipe.teacher for recipe in asked}
    taped = {job: bool(tape_of(job, graph)) for graph in left for job in graph}
    for recipe in asked:
        job = Job("run", recipe)
        role = "teacher" if recipe in teachers else "alone" if recipe.teacher is None else "distilled"
        yield _Entry(job, role, job in taped, taped.get(job, False))


def _frame(entries: Sequence[_Entry], duration: Duration | None, gpus: int) -> pd.DataFrame:
    """One row for each kind of job; figures are sums over those that are left, but for memory."""
    rows = pd.DataFrame([_row(entry, duration, gpus) for entry in entries])
    cells = rows.groupby(_CELL, sort=False, dropna=False)
    sums = cells[_SUMS].agg(lambda column: column.sum(skipna=False))
    largest = cells["memory MiB"].agg(lambda column: column.max(skipna=False))
    return sums.join(largest).reset_index()


def _row(entry: _Entry, duration: Duration | None, gpus: int) -> dict[str, Any]:
    nan = float("nan")
    steps, images, _, flops = entry.work or (nan,) * 4
    took = duration.jobs.get(entry.job, 0) if duration else nan
    kept = disk(entry.job)
    needed = memory(entry.job.recipe, gpus) if entry.job.kind == "run" else None
    return {
        **entry.who,
        "jobs": 1,
        "left": int(entry.left),
        "steps": steps,
        "images": images,
        "TFLOP": flops / 1e12,
        "hours": took / 3600,
        "disk MiB": (kept.kept / _MIB if kept else nan) if entry.left else 0,
        "memory MiB": needed.total / _MIB if needed else nan,
    }


def _space(entries: Sequence[_Entry], store: Store, workers: int) -> dict[str, int | None]:
    """Bytes on the store's disk: for runs, for checkpoints of those that are trained at once, for tapes; free ones."""
    sizes = [(entry.job.kind, disk(entry.job)) for entry in entries]
    free = shutil.disk_usage(next(path for path in (store.folder, *store.folder.parents) if path.is_dir())).free
    if not all(size for _, size in sizes):
        return {"runs": None, "checkpoints": None, "tapes": None, "free": free}
    kept = {kind: sum(size.kept for its, size in sizes if size and its == kind) for kind in ("run", "tape")}
    largest = sorted((size.checkpoints for _, size in sizes if size), reverse=True)[:workers]
    return {"runs": kept["run"], "checkpoints": sum(largest), "tapes": kept["tape"], "free": free}


def _lacking(does: Mapping[Job, JobWork | None], space: Mapping[str, int | None], store: Store) -> Iterator[str]:
    """What is not at hand besides data, each with its remedy."""
    recipes = [job.recipe for job in does]
    for name in sorted({recipe.teacher for recipe in recipes if isinstance(recipe.teacher, str)}):
        if lack := lacking_weights(name):
            yield lack
    if not torch.cuda.is_available():
        if any(recipe.sync_bn for recipe in recipes):
            yield "sync_bn is for GPUs, and there is none: leave it out, or go to a machine with one"
        if any(recipe.precision == "fp16" for recipe in recipes):
            yield "precision 'fp16' needs a GPU, and there is none: use 'bf16' or 'no', or go to a machine with one"
    *needed, free = space.values()
    total = sum(size or 0 for size in needed)
    if free is not None and total > free:
        yield f"the store {store.folder} has {free:,} bytes free, {total:,} are needed: make room, or set LKD_HOME"
