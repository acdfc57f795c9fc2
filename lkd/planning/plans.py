"""Plans of studies and of the book's chapters."""

import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from lkd.engine.jobs import Graph, Job, tape_key
from lkd.planning.data_shape import clear_cache, data_shape, missing_weights
from lkd.planning.gpus import UTILISATION, seconds_on
from lkd.planning.report import Plan, amount
from lkd.planning.timing import Duration, estimate_duration
from lkd.planning.work import JobWork, disk, is_taped, job_graphs, memory, recorded_tape_keys, total_work, work_of
from lkd.recipe import Recipe
from lkd.robustness import SETS
from lkd.runs.store import Store
from lkd.study import check_changed_images
from lkd.study.chapters import CHAPTERS, studies_of
from lkd.util.checks import check_number, check_whole, unknown

MEASURE = 30.0
"""Default time limit of a measurement, in seconds."""

_NOTHING = JobWork(0, 0, 0, 0)
_LISTED = [
    "run_id", "role", "model", "teacher", "objective", "pixels", "batch", "epochs", "train_images", "seed", "stored"
]  # fmt: skip
_CELL = ["role", "model", "teacher", "objective", "pixels", "batch"]
_SUMS = ["jobs", "left", "steps", "images", "TFLOP", "hours", "disk MiB"]
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
    seconds_on(gpu, 0, False, utilisation)
    clear_cache()
    store = store or Store()
    workers = workers or (1 if torch.cuda.is_available() else os.cpu_count() or 1)
    graphs = job_graphs(studies, store)
    work = _remaining_work(graphs, store)
    left = [job.recipe for job, each in work.items() if each != _NOTHING]
    no_data = sorted({lack for recipe in left if (lack := data_shape(recipe).missing)})
    duration = None
    if measure is not None and left and not no_data:
        duration = estimate_duration(graphs, {job: each for job, each in work.items() if each}, workers, measure)
    roles = _roles(studies, work)
    rows = pd.DataFrame([_row(job, roles[job], work.get(job, _NOTHING), duration, gpus) for job in roles])
    space = _space(rows, store, workers)
    return Plan(
        title=title,
        runs=rows.loc[rows.role != "tape", _LISTED],
        frame=_summed(rows),
        work=total_work(work),
        workers=workers,
        duration=duration,
        gpu=gpu,
        utilisation=utilisation,
        gpus=gpus,
        disk=space,
        missing=(*no_data, *_missing(left, space, store), *missing),
        notes=tuple(notes),
    )


def plan_chapter(chapter: str, profile: str = "small", *, parameters: dict[str, Any] | None = None, **how: Any) -> Plan:
    """Plan a chapter of the book.

    Args:
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


def _check(studies: Sequence[Sequence[Recipe]], workers: int | None, measure: float | None, gpus: int) -> None:
    if not any(studies):
        raise ValueError("there is no recipe to plan: give at least one")
    if workers is not None:
        check_whole("workers", workers, 1)
    if measure is not None:
        check_number("measure", measure, 0, above=True)
    check_whole("gpus", gpus, 1)


def _remaining_work(graphs: Sequence[Graph], store: Store) -> dict[Job, JobWork | None]:
    """Work of the remaining jobs; nothing for a tape that is recorded."""
    done = set(recorded_tape_keys(store))
    return {
        job: _NOTHING if job.kind == "tape" and tape_key(job.recipe) in done else work_of(job, is_taped(job, graph))
        for graph in graphs
        for job in graph
    }


def _roles(studies: Sequence[Sequence[Recipe]], work: Iterable[Job]) -> dict[Job, str]:
    """Roles of all runs of studies, each teacher before its first student, and of the remaining tapes."""
    recipes = dict.fromkeys(each for study in studies for recipe in study for each in _with_teachers(recipe))
    teachers, roles = {recipe.teacher for recipe in recipes}, {}
    for recipe in recipes:
        own = "distilled" if recipe.teacher else "alone"
        roles[Job("run", recipe)] = "teacher" if recipe in teachers else own
    return roles | {job: "tape" for job in work if job.kind == "tape"}


def _with_teachers(recipe: Recipe) -> list[Recipe]:
    """A recipe, after the recipes of its teacher, of its teacher's teacher, and so on."""
    return [*(_with_teachers(recipe.teacher) if isinstance(recipe.teacher, Recipe) else ()), recipe]


def _row(job: Job, role: str, work: JobWork | None, duration: Duration | None, gpus: int) -> dict[str, Any]:
    """Settings and figures of a job."""
    recipe, is_run, left = job.recipe, job.kind == "run", work != _NOTHING
    shape, needed = data_shape(recipe).shape, memory(recipe, gpus) if is_run else None
    steps, images, _, flops = work or (math.nan,) * 4
    kept, checkpoints = (disk(job) or (math.nan, math.nan)) if left else (0, 0)
    return {
        "run_id": recipe.run_id,
        "role": role,
        "model": recipe.student if is_run else "",
        "teacher": recipe.teacher_name or "",
        "objective": recipe.objective if is_run and recipe.teacher else "",
        "pixels": shape.size[0] if shape else None,
        "batch": recipe.batch_size,
        "epochs": recipe.epochs,
        "train_images": recipe.train_images,
        "seed": recipe.seed,
        "stored": not left,
        "jobs": 1,
        "left": int(left),
        "steps": steps,
        "images": images,
        "TFLOP": flops / 1e12,
        "hours": duration.jobs.get(job, 0) / 3600 if duration else math.nan,
        "disk MiB": kept / 2**20,
        "memory MiB": needed.total / 2**20 if needed else math.nan,
        "checkpoints MiB": checkpoints / 2**20,
    }


def _summed(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per kind of job: sums over the remaining jobs, and the largest memory."""
    sums = dict.fromkeys(_SUMS, lambda column: column.sum(skipna=False))
    largest = {"memory MiB": lambda column: column.max(skipna=False)}
    return rows.groupby(_CELL, sort=False, dropna=False).agg(sums | largest).reset_index()


def _space(rows: pd.DataFrame, store: Store, workers: int) -> dict[str, int | None]:
    """Bytes on the store's disk: of runs, of checkpoints of concurrent runs, of tapes, and free."""

    def total(mebibytes: pd.Series) -> int | None:
        return None if mebibytes.isna().any() else int(mebibytes.sum() * 2**20)

    kept, tapes = rows["disk MiB"], rows.role == "tape"
    largest = rows["checkpoints MiB"].sort_values(ascending=False, na_position="first")[:workers]
    free = shutil.disk_usage(next(path for path in (store.folder, *store.folder.parents) if path.is_dir())).free
    return {"runs": total(kept[~tapes]), "checkpoints": total(largest), "tapes": total(kept[tapes]), "free": free}


def _missing(recipes: Sequence[Recipe], space: Mapping[str, int | None], store: Store) -> Iterator[str]:
    """Yield missing weights, GPUs and disk space, each with its remedy."""
    names = sorted({recipe.teacher for recipe in recipes if isinstance(recipe.teacher, str)})
    yield from filter(None, map(missing_weights, names))
    if not torch.cuda.is_available():
        if any(recipe.sync_bn for recipe in recipes):
            yield "sync_bn needs a GPU, and this machine has none: leave it out, or use a machine with one"
        if any(recipe.precision == "fp16" for recipe in recipes):
            yield "precision 'fp16' needs a GPU, and this machine has none: use 'bf16' or 'no', or a machine with one"
    *needed, free = (size or 0 for size in space.values())
    if sum(needed) > free:
        has, needs = amount(free / 2**20, "MiB"), amount(sum(needed) / 2**20, "MiB")
        yield f"the store {store.folder} has {has} free and needs {needs}: make room, or set LKD_HOME"
