"""What students have of their teachers besides accuracy: effective receptive field and robustness."""

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
    """Refuse, before anything is trained, a study with models that do not take images of the size of its fields.

    Raises:
        ValueError: names the model, and the size.
    """
    size = next(study.label(recipe)["erf_size"] for recipe in study.recipes if recipe.teacher is not None)
    models = {(recipe.student, repr(recipe.student_args)): recipe for recipe in study.recipes}
    for recipe in models.values():
        try:
            at_size(timm.create_model(recipe.student, **recipe.student_args), size)
        except ValueError as error:
            raise ValueError(f"{recipe.student!r} cannot be measured: erf_{error}; or leave it out") from error


def measure_erf(results: Results, workers: int | None = None) -> None:
    """Measure the effective receptive field of all models of a study that lack it, side by side."""
    settings = _settings(results)
    wanted = {"size": settings["erf_size"], "count": settings["erf_images"]}
    left = [run for run in results.runs if not place(run, "erf", **wanted).exists()]
    measure_all(partial(_map, settings=settings), left, workers)


def check_changed_images(study: Study, imagenet: str | None, sets: Sequence[str] = tuple(SETS)) -> None:
    """Refuse, before anything is trained, a study whose models' robustness could not be measured after that.

    Args:
        study: whose models.
        imagenet: the folder of the user's ImageNet-C, -A, -R and -Sketch, for models of images in files.
        sets: which of these.

    Raises:
        FileNotFoundError: a set that is not there; says where to get it.
        KeyError: an unknown set.
        ValueError: no folder for images in files, or one for images in memory; sets without ImageNet-C.
    """
    data = study.recipes[0].data
    if scheme(data) and imagenet is None:
        raise ValueError(
            f"imagenet is None: corrupted images are made of images in memory, not of {data!r}; give the folder "
            f"that has {', '.join(found.folders[0] for found in SETS.values())}, for models of ImageNet's 1000 classes"
        )
    if imagenet is not None and not scheme(data):
        raise ValueError(f"imagenet={imagenet!r} is for models of ImageNet's 1000 classes, this study is of {data!r}")
    if imagenet is not None and "C" not in sets:
        raise ValueError(f"sets={list(sets)!r} lacks 'C', which errors by corruption are of")
    for name in sets:
        if name not in SETS:
            raise KeyError(unknown("entry of sets", name, SETS))
        if imagenet is not None:
            find(name, Path(imagenet).expanduser(), ["standard"], [(c, s) for c in CORRUPTIONS for s in SEVERITIES])


def measure_robustness(
    results: Results, workers: int | None = None, imagenet: str | None = None, sets: Sequence[str] = tuple(SETS)
) -> None:
    """Measure the errors on changed images of all models of a study that lack them, side by side.

    Corrupted images are made of images in memory, by the first of them for the others; models of images in files are
    measured on the user's sets of ImageNet: see `check_changed_images`.
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
    """One row a distilled run: its effective receptive field, beside its teacher's and that of the student alone.

    `share` is `lkd.erf.effective_share` in percent, `share_gain` what it is above that of the student alone; `side_50`
    is the paper's measure at a threshold of 0.5.
    """
    settings, rows = _settings(results), []
    for run in results.distilled:
        row = _who(results, run)
        for prefix, each in _beside(results, run).items():
            field = _map(each, settings)
            half = area_ratios(field, (0.5,))[0]
            row |= {f"{prefix}share": 100 * effective_share(field), f"{prefix}side_50": half.side}
        rows.append({**row, "share_gain": row["share"] - row["alone_share"]})
    return pd.DataFrame(rows)


def erf_ratios(results: Results) -> pd.DataFrame:
    """One row a teacher and threshold: side in pixels and share of the area, of the map with and without logarithm."""
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
    """One row a distilled run: `lkd.erf.erf_distance` of its field from its teacher's, and of the student's alone."""
    settings, rows = _settings(results), []
    for run in results.distilled:
        teacher = _map(results.teacher_of(run), settings)
        distances = {
            name: erf_distance(_map(each, settings), teacher).radial
            for name, each in (("distance", run), ("distance alone", results.baseline(run)))
        }
        rows.append({**_who(results, run), **distances})
    return pd.DataFrame(rows)


def erf_maps(results: Results) -> dict[str, dict[str, np.ndarray]]:
    """Maps by name: of the first instance of each "teacher", and of the "student" of the first seed by its teacher."""
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
    """Error in percent by type of corruption, a column each: means over severities and runs of a model and teacher."""
    settings = _settings(results)
    rows = [
        _table(run, settings).assign(model=run.recipe.student, teacher=run.recipe.teacher_name or "none")
        for run in results.runs
    ]
    errors = pd.concat(rows).assign(error=lambda table: 100 * table.error)
    cells = errors.groupby(["model", "teacher", "corruption"], sort=False).error.mean()
    return cells.unstack()[errors.corruption.unique()].reset_index()


def imagenet_table(results: Results, sets: Sequence[str] = tuple(SETS)) -> pd.DataFrame:
    """One row a run: errors in percent on clean images and on the user's sets of ImageNet."""
    rows, count = [], _settings(results)["corrupted_images"]
    for run in results.runs:
        tables = {name: imagenet_errors_of(run, name, count) for name in sets}
        corrupted = imagenet_c_scores(tables["C"]) if "C" in tables else {}
        others = {f"ImageNet-{name}": 100 * table.error.mean() for name, table in tables.items() if name != "C"}
        about = results.describe(run.recipe)
        who = {name: about[name] for name in (*CELL, "teacher_seed", "seed")}
        rows.append({**who, "clean": 100 - run.metrics["test_top1"], **corrupted, **others})
    return pd.DataFrame(rows)


def robustness_table(results: Results) -> pd.DataFrame:
    """One row a distilled run: mean errors in percent on clean and corrupted images, beside teacher's and student's.

    `error` is the plain mean over all types and severities, of ImageNet-C for models of images in files; it is not mCE,
    which is defined for ImageNet-C alone.
    """
    settings, rows = _settings(results), []
    for run in results.distilled:
        row = _who(results, run)
        for prefix, each in _beside(results, run).items():
            table = _table(each, settings)
            clean = table.corruption == CLEAN
            row |= {
                f"{prefix}error": 100 * table[~clean].error.mean(),
                f"{prefix}clean_error": 100 * table[clean].error.mean(),
            }
        rows.append({**row, "error_gain": row["error"] - row["alone_error"]})
    return pd.DataFrame(rows)


def _who(results: Results, run: Run) -> dict[str, Any]:
    about, label = results.describe(run.recipe), results.label(run.recipe)
    return {
        name: about[name] for name in (*CELL, "teacher_seed", "seed", *label, "run_id") if name not in TRAIT_SETTINGS
    }


def _beside(results: Results, run: Run) -> dict[str, Run]:
    """A distilled run, the same student alone, and the teacher, by the prefix of their columns."""
    return {"": run, "alone_": results.baseline(run), "teacher_": results.teacher_of(run)}


def _settings(results: Results) -> dict[str, Any]:
    label = results.label(results.distilled[0].recipe)
    return {name: label[name] for name in TRAIT_SETTINGS}


def _map(run: Run, settings: dict[str, Any]) -> np.ndarray:
    return erf_of(run, settings["erf_size"], settings["erf_images"])


def _table(run: Run, settings: dict[str, Any]) -> pd.DataFrame:
    """Errors by corruption and severity, one row without any among them."""
    if scheme(run.recipe.data) is None:
        return errors_of(run, settings["corrupted_images"])
    errors = imagenet_errors_of(run, "C", settings["corrupted_images"]).query("protocol == 'standard'")
    errors = errors[["corruption", "severity", "error"]]
    clean = {"corruption": CLEAN, "severity": 0, "error": 1 - run.metrics["test_top1"] / 100}
    return pd.concat([pd.DataFrame([clean]), errors], ignore_index=True)
