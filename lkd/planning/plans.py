"""Plans of studies and of the book's chapters."""

import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch

from lkd.engine.jobs import Graph, Job, tape_key
from lkd.planning.data_shape import data_shape, forget, missing_weights
from lkd.planning.footprint import Disk, disk, memory, recorded
from lkd.planning.gpus import UTILISATION, seconds_on
from lkd.planning.report import Plan
from lkd.planning.timing import Duration, estimate_duration
from lkd.planning.work import JobWork, job_graphs, tape_of, total_work, work_of
from lkd.recipe import Recipe
from lkd.robustness import SETS
from lkd.runs.store import Store
from lkd.study import check_changed_images
from lkd.study.chapters import CHAPTERS, studies_of
from lkd.util.checks import check_number, check_whole, unknown

MEASURE = 30.0
"""Default time limit of a measurement, in seconds."""

_CELL = ["role", "model", "teacher", "objective", "pixels", "batch"]
_SUMS = ["jobs", "left", "steps", "images", "TFLOP", "hours", "disk MiB"]
_MIB = 2**20
_PAGE = "The page adds a few seconds, to start a kernel and to draw figures."
_TRAITS = "Measurements on the trained models, of effective receptive field or robustness, are not included."


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
    """Plan studies that run one after another; nothing is written to the store, and nothing downloaded.

    Args:
        studies: recipes of each study.
        title: title of the plan.
        store: the store of finished runs; by default the one in this machine's home.
        workers: number of parallel processes; by default one per CPU, or a single one on a machine with a GPU.
        measure: approximate number of seconds for which steps are timed on this device; None to skip timing.
        gpu: the GPU of the estimated hours, a key of `lkd.planning.GPUS`.
        utilisation: assumed share of its peak rate.
        gpus: number of GPUs that share each batch.
        missing: other missing things, each with its remedy.
        notes: caveats, one sentence each.

    Raises:
        KeyError: an unknown GPU.
        TypeError, ValueError: no recipe, or an invalid number.

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
    graphs = job_graphs(studies, store)
    entries = [*_runs(studies, graphs), *_tapes(graphs, store)]
    planned = {job for graph in graphs for job in graph}
    work = {entry.job: entry.work for entry in entries if entry.job in planned}
    no_data = sorted({lack for job in work if (lack := data_shape(job.recipe).missing)})
    duration = None
    if measure is not None and work and not no_data:
        duration = estimate_duration(graphs, {job: each for job, each in work.items() if each}, workers, measure)
    space = _space(entries, store, workers)
    return Plan(
        title=title,
        runs=pd.DataFrame([entry.listed for entry in entries if entry.job.kind == "run"]),
        frame=_frame(entries, duration, gpus),
        work=total_work(work),
        workers=workers,
        duration=duration,
        gpu=gpu,
        utilisation=utilisation,
        gpus=gpus,
        disk=space,
        missing=(*no_data, *_missing([job.recipe for job in work], space, store), *missing),
        notes=tuple(notes),
    )


def plan_chapter(chapter: str, profile: str = "small", *, parameters: dict[str, Any] | None = None, **how: Any) -> Plan:
    """Plan a chapter of the book.

    Args:
        chapter: its name.
        profile: the scale.
        parameters: parameters of the chapter, as for `lkd run`: teachers, students, objectives, seeds, ...
        how: keyword arguments of `plan`.

    Raises:
        KeyError, TypeError, ValueError: an unknown chapter, profile or model, or an invalid parameter.

    Example:
        >>> from lkd.planning import plan_chapter
        >>> found = plan_chapter("longer_training", "smoke", parameters={"seeds": [0]}, measure=None)
        >>> found.counts["distilled"], found.missing
        (6, ())
    """
    given = dict(parameters or {})
    if chapter not in CHAPTERS:
        raise KeyError(unknown("chapter", chapter, CHAPTERS))
    if not CHAPTERS[chapter].studies:
        raise ValueError(f"chapter {chapter!r} has no study to plan")
    if given.pop("published", False):
        raise ValueError("published is True: the chapter then trains nothing, and there is nothing to plan")
    images = {name: given.pop(name) for name in ("imagenet", "sets") if name in given}
    workers = given.pop("workers", None)
    studies = studies_of(chapter, profile, **given)
    missing = []
    if chapter == "robustness":
        try:
            check_changed_images(studies[0], **{"imagenet": None, "sets": tuple(SETS), **images})
        except (FileNotFoundError, ValueError) as error:
            missing.append(str(error))
    return plan(
        *(study.recipes for study in studies),
        title=f"{chapter}, profile {profile}",
        workers=workers,
        missing=missing,
        notes=[_PAGE, *([_TRAITS] if CHAPTERS[chapter].measured else [])],
        **how,
    )


@dataclass(frozen=True)
class _Entry:
    """A job of the plan: its role, whether it remains to be done, and whether it reads a tape."""

    job: Job
    role: str
    left: bool
    taped: bool = False

    @cached_property
    def work(self) -> JobWork | None:
        """Remaining work."""
        return work_of(self.job, self.taped) if self.left else JobWork(0, 0, 0, 0)

    @cached_property
    def disk(self) -> Disk | None:
        """Disk space still to be taken."""
        return disk(self.job) if self.left else Disk(0, 0)

    @property
    def about(self) -> dict[str, Any]:
        """Columns that describe the job."""
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
        """Row of the list of runs."""
        recipe = self.job.recipe
        length = {"epochs": recipe.epochs, "train_images": recipe.train_images, "seed": recipe.seed}
        return {"run_id": recipe.run_id, **self.about, **length, "stored": not self.left}

    def row(self, duration: Duration | None, gpus: int) -> dict[str, Any]:
        """Row of the table of jobs, before jobs of one kind are summed."""
        steps, images, _, flops = self.work or (math.nan,) * 4
        needed = memory(self.job.recipe, gpus) if self.job.kind == "run" else None
        return {
            **self.about,
            "jobs": 1,
            "left": int(self.left),
            "steps": steps,
            "images": images,
            "TFLOP": flops / 1e12,
            "hours": duration.jobs.get(self.job, 0) / 3600 if duration else math.nan,
            "disk MiB": self.disk.kept / _MIB if self.disk else math.nan,
            "memory MiB": needed.total / _MIB if needed else math.nan,
        }


def _check(studies: Sequence[Sequence[Recipe]], workers: int | None, measure: float | None, gpus: int) -> None:
    if not any(studies):
        raise ValueError("there is no recipe to plan: give at least one")
    if workers is not None:
        check_whole("workers", workers, 1)
    if measure is not None:
        check_number("measure", measure, 0, above=True)
    check_whole("gpus", gpus, 1)


def _runs(studies: Sequence[Sequence[Recipe]], graphs: Sequence[Graph]) -> Iterator[_Entry]:
    """All runs of studies, each teacher before its first student."""
    recipes: dict[Recipe, None] = {}
    for recipe in (recipe for study in studies for recipe in study):
        chain = [recipe]
        while isinstance(chain[0].teacher, Recipe):
            chain.insert(0, chain[0].teacher)
        recipes |= dict.fromkeys(chain)
    teachers = {recipe.teacher for recipe in recipes}
    taped = {job: bool(tape_of(job, graph)) for graph in graphs for job in graph}
    for recipe in recipes:
        job = Job("run", recipe)
        role = "teacher" if recipe in teachers else "alone" if recipe.teacher is None else "distilled"
        yield _Entry(job, role, job in taped, taped.get(job, False))


def _tapes(graphs: Sequence[Graph], store: Store) -> Iterator[_Entry]:
    done = set(recorded(store))
    for job in (job for graph in graphs for job in graph if job.kind == "tape"):
        yield _Entry(job, "tape", tape_key(job.recipe) not in done)


def _frame(entries: Sequence[_Entry], duration: Duration | None, gpus: int) -> pd.DataFrame:
    """One row per kind of job: sums over the remaining jobs, and the largest memory."""
    cells = pd.DataFrame([entry.row(duration, gpus) for entry in entries]).groupby(_CELL, sort=False, dropna=False)
    sums = cells[_SUMS].agg(lambda column: column.sum(skipna=False))
    largest = cells["memory MiB"].agg(lambda column: column.max(skipna=False))
    return sums.join(largest).reset_index()


def _space(entries: Sequence[_Entry], store: Store, workers: int) -> dict[str, int | None]:
    """Bytes on the store's disk: of runs, of checkpoints of concurrent runs, of tapes, and free."""
    free = shutil.disk_usage(next(path for path in (store.folder, *store.folder.parents) if path.is_dir())).free
    sizes = [(entry.job.kind, entry.disk) for entry in entries if entry.disk]
    if len(sizes) < len(entries):
        return {"runs": None, "checkpoints": None, "tapes": None, "free": free}
    kept = {kind: sum(size.kept for its, size in sizes if its == kind) for kind in ("run", "tape")}
    largest = sorted((size.checkpoints for _, size in sizes), reverse=True)[:workers]
    return {"runs": kept["run"], "checkpoints": sum(largest), "tapes": kept["tape"], "free": free}


def _missing(recipes: Sequence[Recipe], space: Mapping[str, int | None], store: Store) -> Iterator[str]:
    """Yield what is missing besides data, each with its remedy."""
    names = sorted({recipe.teacher for recipe in recipes if isinstance(recipe.teacher, str)})
    yield from filter(None, map(missing_weights, names))
    if not torch.cuda.is_available():
        if any(recipe.sync_bn for recipe in recipes):
            yield "sync_bn needs a GPU, and this machine has none: leave it out, or use a machine with one"
        if any(recipe.precision == "fp16" for recipe in recipes):
            yield "precision 'fp16' needs a GPU, and this machine has none: use 'bf16' or 'no', or a machine with one"
    *needed, free = space.values()
    total = sum(size or 0 for size in needed)
    if free is not None and total > free:
        yield f"the store {store.folder} has {free:,} bytes free and needs {total:,}: make room, or set LKD_HOME"
