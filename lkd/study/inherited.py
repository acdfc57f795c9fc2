"""What students have of their teachers besides accuracy: effective receptive field and robustness."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lkd.erf import area_ratios, effective_share, erf_distance
from lkd.measure import erf_of, errors_of, measure_all, place
from lkd.robustness import CLEAN
from lkd.store import Run
from lkd.study.grid import Grid, Study, unique
from lkd.study.results import CELL, Results


def traits(profile: str = "small", **given: Any) -> Study:
    """The teachers, students alone and distilled students whose traits are measured; `logit_kd` has trained them.

    Args:
        profile: the scale.
        given: `teachers`, `students`, `objectives`, `teacher_seeds`, `seeds` as for `distillation`.
    """
    grid = Grid(profile=profile, chapter="traits", **given)
    taught = grid.taught()
    settings = {name: grid.settings[name] for name in ("erf_size", "erf_images", "corrupted_images")}
    return Study(unique([*taught, *grid.pupils(taught)]), lambda recipe: settings)


def measure_erf(results: Results, workers: int | None = None) -> None:
    """Measure the effective receptive field of all models of a study that lack it, side by side."""
    settings = _settings(results)
    wanted = {"size": settings["erf_size"], "count": settings["erf_images"]}
    left = [run for run in results.runs if not place(run, "erf", **wanted).exists()]
    measure_all(partial(_map, settings=settings), left, workers)


def measure_robustness(results: Results, workers: int | None = None) -> None:
    """Measure the errors on corrupted images of all models of a study that lack them, side by side.

    The first of them makes the corrupted images for the others.
    """
    settings = _settings(results)
    left = [run for run in results.runs if not place(run, "errors", count=settings["corrupted_images"]).exists()]
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
            for name, each in (("distance", run), ("distance alone", results.alone(run)))
        }
        rows.append({**_who(results, run), **distances})
    return pd.DataFrame(rows)


def erf_maps(results: Results) -> dict[str, dict[str, np.ndarray]]:
    """Maps by name: of the first instance of each "teacher", and of the "student" of the first seed by its teacher."""
    settings, first = _settings(results), results.distilled[0].recipe
    teachers: dict[str, np.ndarray] = {}
    students = {"alone": _map(results.alone(results.distilled[0]), settings)}
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


def robustness_table(results: Results) -> pd.DataFrame:
    """One row a distilled run: mean errors in percent on clean and corrupted images, beside teacher's and student's.

    `error` is the plain mean over all types and severities; it is not mCE, which is defined for ImageNet-C alone.
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
    about = results.describe(run.recipe)
    return {name: about[name] for name in (*CELL, "teacher_seed", "seed")}


def _beside(results: Results, run: Run) -> dict[str, Run]:
    """A distilled run, the same student alone, and the teacher, by the prefix of their columns."""
    return {"": run, "alone_": results.alone(run), "teacher_": results.teacher_of(run)}


def _settings(results: Results) -> dict[str, int]:
    return dict(results.label(results.distilled[0].recipe))


def _map(run: Run, settings: dict[str, int]) -> np.ndarray:
    return erf_of(run, settings["erf_size"], settings["erf_images"])


def _table(run: Run, settings: dict[str, int]) -> pd.DataFrame:
    return errors_of(run, settings["corrupted_images"])
