"""Results of a study as tidy tables."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lkd.metrics import Spread, direct_gain, effective_gain, spread
from lkd.recipe import Recipe
from lkd.runs.store import Run
from lkd.study.compare import REPLICATES, MissingRowsError, crossed
from lkd.study.measure import cost_of, place

CELL = ["student", "teacher", "objective"]
Label = Callable[[Recipe], Mapping[str, Any]]


def no_label(recipe: Recipe) -> dict[str, Any]:
    """No extra columns."""
    return {}


@dataclass(frozen=True)
class Results:
    """The runs of a study.

    Args:
        runs: distilled runs, their teachers and their baselines, in any order.
        label: extra columns for a distilled run.
    """

    runs: list[Run]
    label: Label = no_label

    @property
    def table(self) -> pd.DataFrame:
        """One row per run: its settings, final metrics, id and seconds."""
        return pd.DataFrame([_row(run) for run in self.runs])

    @property
    def curves(self) -> pd.DataFrame:
        """One row per epoch of a student: the settings of its run, and the metrics of its history."""
        learners = [run for run in self.runs if not self.teaches(run)]
        return pd.concat([run.history.assign(**self.describe(run.recipe)) for run in learners], ignore_index=True)

    @property
    def distilled(self) -> list[Run]:
        """The runs with a teacher."""
        return [run for run in self.runs if run.recipe.teacher is not None]

    def teacher_of(self, run: Run) -> Run:
        """The run of a distilled run's teacher."""
        return self._by_recipe[run.recipe.teacher]

    def baseline(self, run: Run) -> Run:
        """The run of the same student without a teacher, with equal data, stream, settings and initial weights."""
        return self._by_recipe[run.recipe.baseline]

    def teaches(self, run: Run) -> bool:
        """Whether a run is a teacher of this study."""
        return run.recipe in self._teachers

    def describe(self, recipe: Recipe) -> dict[str, Any]:
        """The columns that describe a run."""
        return {**_describe(recipe), **(self.label(recipe) if recipe.teacher is not None else {})}

    @property
    def gains(self) -> pd.DataFrame:
        """Direct and effective gain, one row per distilled run, with test accuracies of teacher, baseline and student.

        The effective gain is in percent; it is missing if the teacher's accuracy is zero.
        """
        rows = []
        for run in self.distilled:
            about = self.describe(run.recipe)
            rows.append(
                {
                    **{name: about[name] for name in (*CELL, "teacher_seed", "seed")},
                    **self.label(run.recipe),
                    "teacher_top1": self.teacher_of(run).metrics["test_top1"],
                    "student_top1": self.baseline(run).metrics["test_top1"],
                    "distilled_top1": run.metrics["test_top1"],
                    "run_id": about["run_id"],
                }
            )
        gains = pd.DataFrame(rows)
        known = gains[gains.teacher_top1 > 0]
        return gains.assign(
            direct_gain=direct_gain(gains.distilled_top1, gains.student_top1),
            effective_gain=100 * effective_gain(known.distilled_top1, known.student_top1, known.teacher_top1),
        )

    @property
    def teachers(self) -> pd.DataFrame:
        """One row per trained teacher: its accuracies in percent, the seconds of its training, and its run."""
        rows = [_row(run) for run in self.runs if self.teaches(run)]
        columns = ["student", "seed", "val_top1", "test_top1", "seconds", "run_id"]
        return pd.DataFrame(rows)[columns].rename(columns={"student": "teacher"})

    @property
    def objectives(self) -> dict[str, dict[str, Any]]:
        """The distillation objectives with their parameters."""
        return {run.recipe.objective: dict(run.recipe.objective_args) for run in self.distilled}

    @property
    def variants(self) -> pd.DataFrame:
        """One row per variant of a method, with all parameters of its objective."""
        named = {self.label(run.recipe)["variant"]: run.recipe for run in self.distilled}
        rows = [
            {
                "variant": name,
                "objective": recipe.objective,
                "parameters": ", ".join(f"{key} = {value}" for key, value in recipe.objective_args.items()),
            }
            for name, recipe in named.items()
        ]
        return pd.DataFrame(rows)

    @property
    def costs(self) -> pd.DataFrame:
        """Parameters and multiply-accumulates per image, with and without zeros, and speed, one row per model.

        A model that was trained dense and sparse has two rows. The zeros of a sparse model are stored and multiplied
        like other weights. Speed is measured for the forward pass of 64 images on one thread of the run's machine.
        """
        models: dict[tuple[Any, ...], Run] = {}
        for run in self.runs:
            recipe = run.recipe
            model = recipe.student, repr(recipe.student_args), recipe.sparsity, recipe.sparse_scope
            if model not in models or (place(run, "cost").exists() and not place(models[model], "cost").exists()):
                models[model] = run
        return pd.DataFrame([{"model": run.recipe.student, **cost_of(run)} for run in models.values()])

    @cached_property
    def _by_recipe(self) -> dict[Any, Run]:
        return {run.recipe: run for run in self.runs}

    @cached_property
    def _teachers(self) -> set[Any]:
        return {run.recipe.teacher for run in self.distilled}


def by_cell(table: pd.DataFrame, column: str, cell: list[str] = CELL) -> pd.DataFrame:
    """Mean, sd, 95 % interval and n of a column, one row per cell, by default per student, teacher and objective.

    The interval is `effect`'s, for teacher instances crossed with student seeds; in a table without these columns, rows
    count as independent.
    """
    if table.empty:
        return pd.DataFrame(columns=[*cell, *Spread._fields])
    if not (pairs := {name: table[name].fillna(0) for name in REPLICATES if name in table}):
        cells = table.groupby(cell, sort=False)[column]
        spreads = {names: spread(values) for names, values in cells}
    else:
        rows = table.assign(**dict.fromkeys(REPLICATES, 0) | pairs)
        spreads = {names: _crossed(rows, column) for names, rows in rows.groupby(cell, sort=False)}
    found = [{**dict(zip(cell, names, strict=True)), **each._asdict()} for names, each in spreads.items()]
    return pd.DataFrame(found).astype({"n": int})


def _crossed(rows: pd.DataFrame, column: str) -> Spread:
    """Mean over instances and seeds of one cell."""
    values = rows[column].to_numpy()
    (instances, seeds), places = zip(*(np.unique(rows[name], return_inverse=True) for name in REPLICATES), strict=True)
    sums, counts = (np.zeros((len(instances), len(seeds))) for _ in range(2))
    np.add.at(sums, places, values)
    np.add.at(counts, places, 1)
    if (counts == 0).any():
        raise MissingRowsError(f"{column}: some of {len(instances)} instances lack some of {len(seeds)} seeds")
    found = crossed((sums / counts)[None])
    return Spread(
        found.mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan, *found.interval(), len(values)
    )


def _describe(recipe: Recipe) -> dict[str, Any]:
    teacher = recipe.teacher
    return {
        "run_id": recipe.run_id,
        "data": recipe.data,
        "train_images": recipe.train_images,
        "epochs": recipe.epochs,
        "student": recipe.student,
        "teacher": recipe.teacher_name,
        "teacher_seed": teacher.seed if isinstance(teacher, Recipe) else None,
        "objective": recipe.objective,
        "seed": recipe.seed,
    }


def _row(run: Run) -> dict[str, Any]:
    return {**_describe(run.recipe), **run.metrics, "seconds": run.provenance["seconds"]}
