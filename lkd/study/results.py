"""What a study found: its runs, as tidy tables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from lkd.metrics import Spread, direct_gain, effective_gain, spread
from lkd.recipe import Recipe
from lkd.runs.store import Run
from lkd.study.measure import cost_of, place

CELL = ["student", "teacher", "objective"]
Label = Callable[[Recipe], Mapping[str, Any]]


def no_label(recipe: Recipe) -> dict[str, Any]:
    """Nothing more than what every row says."""
    return {}


@dataclass(frozen=True)
class Results:
    """The runs of a study.

    Args:
        runs: in any order; beside a distilled run, that of its teacher and that of its student alone.
        label: what a row about a distilled run says besides who taught whom, how and with which seeds.
    """

    runs: list[Run]
    label: Label = no_label

    @property
    def table(self) -> pd.DataFrame:
        """One row a run: what was run, its final figures, its id and its seconds."""
        return pd.DataFrame([_row(run) for run in self.runs])

    @property
    def curves(self) -> pd.DataFrame:
        """One row an epoch of a run: what was run, and the figures of its history."""
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
        """The run of the same student without a teacher: same data, stream, settings and initial weights."""
        return self._by_recipe[run.recipe.baseline]

    def teaches(self, run: Run) -> bool:
        """Whether a run is that of a teacher."""
        return run.recipe in self._teachers

    def describe(self, recipe: Recipe) -> dict[str, Any]:
        """The columns that say what a run is."""
        return {**_describe(recipe), **(self.label(recipe) if recipe.teacher is not None else {})}

    @property
    def gains(self) -> pd.DataFrame:
        """One row a distilled run: test accuracies of teacher, student alone (same seed) and distilled, and both gains.

        The effective gain is in per cent, and missing where the teacher is never right.
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
        """One row a trained teacher: its accuracies in percent, the seconds its training took, and its run."""
        rows = [_row(run) for run in self.runs if self.teaches(run)]
        columns = ["student", "seed", "val_top1", "test_top1", "seconds", "run_id"]
        return pd.DataFrame(rows)[columns].rename(columns={"student": "teacher"})

    @property
    def objectives(self) -> dict[str, dict[str, Any]]:
        """The distillation objectives, each with its parameters."""
        return {run.recipe.objective: dict(run.recipe.objective_args) for run in self.distilled}

    @property
    def variants(self) -> pd.DataFrame:
        """One row a named way to teach, with all parameters of its objective."""
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
        """One row a model: parameters and multiply-accumulates of an image, as stored and without the zeros, and speed.

        A model that was trained dense and sparse has a row for each. A sparse model's zeros are stored and multiplied
        like all else. Speed is that of a forward pass of 64 images on one thread, measured where the run lies.
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
    """Mean, sd, 95 % interval and n of a column, one row for each cell: each student, teacher and objective, say."""
    if table.empty:
        return pd.DataFrame(columns=[*cell, *Spread._fields])
    cells = table.groupby(cell, sort=False)[column]
    return cells.apply(lambda values: pd.Series(spread(values)._asdict())).unstack().astype({"n": int}).reset_index()


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
