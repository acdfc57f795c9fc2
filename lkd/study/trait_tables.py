"""Tables of traits other than accuracy: effective receptive field and robustness."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm

from lkd.data import scheme
from lkd.erf import area_ratios, at_size, effective_share, erf_distance
from lkd.robustness import CLEAN, CORRUPTIONS, SETS, SEVERITIES, imagenet_c_scores
from lkd.robustness.folders import find
from lkd.runs.store import Run
from lkd.study.grid import Study
from lkd.study.measure import erf_of, errors_of, imagenet_errors_of, measure_all, place
from lkd.study.results import CELL, Results
from lkd.study.studies import TRAIT_SETTINGS
from lkd.util.checks import unknown


def check_field_size(study: Study) -> None:
    """Raise a ValueError, before training, if a model does not accept the image size for receptive fields."""
    size = next(study.label(recipe)["erf_size"] for recipe in study.recipes if recipe.teacher is not None)
    models = {(recipe.student, repr(recipe.student_args)): recipe for recipe in study.recipes}
    for recipe in models.values():
        try:
            at_size(timm.create_model(recipe.student, **recipe.student_args), size)
        except ValueError as error:
            raise ValueError(f"{recipe.student!r} cannot be measured: erf_{error}; or leave it out") from error


def measure_erf(results: Results, workers: int | None = None) -> None:
    """Measure missing effective receptive fields of a study's models in parallel."""
    settings = _settings(results)
    wanted = {"size": settings["erf_size"], "count": settings["erf_images"]}
    left = [run for run in results.runs if not place(run, "erf", **wanted).exists()]
    measure_all(partial(_map, settings=settings), left, workers)


def check_changed_images(study: Study, imagenet: str | None, sets: Sequence[str] = tuple(SETS)) -> None:
    """Check, before training, that the test sets for the robustness of a study's models are available.

    Args:
        imagenet: folder with ImageNet-C, -A, -R and -Sketch: required if the study's data are image files, not allowed
            for images in memory, which lkd corrupts itself.
        sets: names of the sets to use.

    Raises:
        FileNotFoundError: a missing set; the message tells where to get it.
        KeyError: an unknown set.
        ValueError: `imagenet` is missing for image files or given for images in memory, or `sets` lacks ImageNet-C.
    """
    data = study.recipes[0].data
    if scheme(data) and imagenet is None:
        raise ValueError(
            f"imagenet is None: lkd corrupts in-memory images only, not {data!r}; give the folder with "
            f"{', '.join(found.folders[0] for found in SETS.values())}, for models of ImageNet's 1000 classes"
        )
    if imagenet is not None and not scheme(data):
        raise ValueError(
            f"imagenet={imagenet!r} is for models of ImageNet's 1000 classes, not of {data!r}: leave it out"
        )
    if imagenet is not None and "C" not in sets:
        raise ValueError(f"sets={list(sets)!r} must include 'C', the set of the errors by corruption")
    for name in sets:
        if name not in SETS:
            raise KeyError(unknown("entry of sets", name, SETS))
        if imagenet is not None:
            find(name, Path(imagenet).expanduser(), ["standard"], [(c, s) for c in CORRUPTIONS for s in SEVERITIES])


def measure_robustness(
    results: Results, workers: int | None = None, imagenet: str | None = None, sets: Sequence[str] = tuple(SETS)
) -> None:
    """Measure missing errors of a study's models on changed images, in parallel.

    In-memory images are corrupted once for all models. Models of image files are measured on the sets in `imagenet`:
    see `check_changed_images`.
    """
    settings = _settings(results)
    count = settings["corrupted_images"]
    if imagenet is not None:
        for name in sets:
            left = [run for run in results.runs if not place(run, "imagenet", images=name, count=count).exists()]
            measure_all(partial(imagenet_errors_of, images=name, count=count, folder=imagenet), left, workers)
        return
    left = [run for run in results.runs if not place(run, "errors", count=count).exists()]
    for some in (left[:1], left[1:]):
        measure_all(partial(_table, settings=settings), some, workers)


def erf_table(results: Results) -> pd.DataFrame:
    """Effective receptive fields of student, teacher and baseline, one row per distilled run.

    `share` is `lkd.erf.effective_share` in percent, `share_gain` its difference to the baseline's, and `side_50` the
    paper's measure at a threshold of 0.5.
    """
    settings, rows = _settings(results), []
    for run in results.distilled:
        row = _keys(results, run)
        for prefix, each in _related(results, run).items():
            field = _map(each, settings)
            half = area_ratios(field, (0.5,))[0]
            row |= {f"{prefix}share": 100 * effective_share(field), f"{prefix}side_50": half.side}
        rows.append({**row, "share_gain": row["share"] - row["alone_share"]})
    return pd.DataFrame(rows)


def erf_ratios(results: Results) -> pd.DataFrame:
    """Side in pixels and share of the area, one row per teacher, threshold and map (with and without logarithm)."""
    settings = _settings(results)
    rows = [
        {"teacher": run.recipe.student, "seed": run.recipe.seed, "map": kind, **ratio._asdict()}
        for run in results.runs
        if results.teaches(run)
        for kind in ("logarithm", "plain")
        for ratio in area_ratios(_map(run, settings), log=kind == "logarithm")
    ]
    return pd.DataFrame(rows)


def erf_distances(results: Results) -> pd.DataFrame:
    """`lkd.erf.erf_distance` to the teacher's field, of each distilled run and of its baseline, one row per run."""
    settings, rows = _settings(results), []
    for run in results.distilled:
        teacher = _map(results.teacher_of(run), settings)
        distances = {
            name: erf_distance(_map(each, settings), teacher).radial
            for name, each in (("distance", run), ("distance alone", results.baseline(run)))
        }
        rows.append({**_keys(results, run), **distances})
    return pd.DataFrame(rows)


def erf_maps(results: Results) -> dict[str, dict[str, np.ndarray]]:
    """Maps by name, under "teacher" for the first instance of each teacher, and under "student" for its first student.

    "student" begins with the baseline, named "alone".
    """
    settings, first = _settings(results), results.distilled[0].recipe
    teachers: dict[str, np.ndarray] = {}
    students = {"alone": _map(results.baseline(results.distilled[0]), settings)}
    for run in results.distilled:
        recipe, teacher = run.recipe, results.teacher_of(run)
        teachers.setdefault(teacher.recipe.student, _map(teacher, settings))
        if (recipe.student, recipe.objective, recipe.seed) == (first.student, first.objective, first.seed):
            students.setdefault(f"by {teacher.recipe.student}", _map(run, settings))
    return {"teacher": teachers, "student": students}


def errors_by_type(results: Results) -> pd.DataFrame:
    """Mean error in percent over severities and runs, one row per model and teacher, one column per corruption."""
    settings = _settings(results)
    rows = [
        _table(run, settings).assign(model=run.recipe.student, teacher=run.recipe.teacher_name or "none")
        for run in results.runs
    ]
    errors = pd.concat(rows).assign(error=lambda table: 100 * table.error)
    cells = errors.groupby(["model", "teacher", "corruption"], sort=False).error.mean()
    return cells.unstack()[errors.corruption.unique()].reset_index()


def imagenet_table(results: Results, sets: Sequence[str] = tuple(SETS)) -> pd.DataFrame:
    """Errors in percent on clean images and on sets of ImageNet, one row per run."""
    rows, count = [], _settings(results)["corrupted_images"]
    for run in results.runs:
        tables = {name: imagenet_errors_of(run, name, count) for name in sets}
        corrupted = imagenet_c_scores(tables["C"]) if "C" in tables else {}
        others = {f"ImageNet-{name}": 100 * table.error.mean() for name, table in tables.items() if name != "C"}
        about = results.describe(run.recipe)
        keys = {name: about[name] for name in (*CELL, "teacher_seed", "seed")}
        rows.append({**keys, "clean": 100 - run.metrics["test_top1"], **corrupted, **others})
    return pd.DataFrame(rows)


def robustness_table(results: Results) -> pd.DataFrame:
    """Mean errors in percent on clean and corrupted images, one row per distilled run, with teacher and baseline.

    `error` is the plain mean over all types and severities (for models of image files, of ImageNet-C), not mCE.
    `excess` is the error minus the error on the same clean images, the numerator of the relative mCE (Hendrycks and
    Dietterich, 2019).
    """
    settings, rows = _settings(results), []
    for run in results.distilled:
        row = _keys(results, run)
        for prefix, each in _related(results, run).items():
            table = _table(each, settings)
            clean = table.corruption == CLEAN
            row |= {
                f"{prefix}error": 100 * table[~clean].error.mean(),
                f"{prefix}clean_error": 100 * table[clean].error.mean(),
            }
        excess = row["error"] - row["clean_error"]
        rows.append({**row, "error_gain": row["error"] - row["alone_error"], "excess": excess})
    return pd.DataFrame(rows)


def _keys(results: Results, run: Run) -> dict[str, Any]:
    about, label = results.describe(run.recipe), results.label(run.recipe)
    return {
        name: about[name] for name in (*CELL, "teacher_seed", "seed", *label, "run_id") if name not in TRAIT_SETTINGS
    }


def _related(results: Results, run: Run) -> dict[str, Run]:
    """A distilled run, its baseline and its teacher, by the prefix of their columns."""
    return {"": run, "alone_": results.baseline(run), "teacher_": results.teacher_of(run)}


def _settings(results: Results) -> dict[str, Any]:
    label = results.label(results.distilled[0].recipe)
    return {name: label[name] for name in TRAIT_SETTINGS}


def _map(run: Run, settings: dict[str, Any]) -> np.ndarray:
    return erf_of(run, settings["erf_size"], settings["erf_images"])


def _table(run: Run, settings: dict[str, Any]) -> pd.DataFrame:
    """Errors by corruption and severity, with one row of clean images."""
    if scheme(run.recipe.data) is None:
        return errors_of(run, settings["corrupted_images"])
    errors = imagenet_errors_of(run, "C", settings["corrupted_images"]).query("protocol == 'standard'")
    errors = errors[["corruption", "severity", "error"]]
    clean = {"corruption": CLEAN, "severity": 0, "error": 1 - run.metrics["test_top1"] / 100}
    return pd.concat([pd.DataFrame([clean]), errors], ignore_index=True)
