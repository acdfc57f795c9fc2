"""Studies: grids of recipes that answer one question, with a tidy table as the result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lkd.data import load
from lkd.engine.side_by_side import carry_out_all
from lkd.metrics import Spread, direct_gain, effective_gain, spread
from lkd.models.cost import cost, images_per_second
from lkd.profiles import Profile
from lkd.recipe import Recipe
from lkd.store import Run, Store


@dataclass(frozen=True)
class Study:
    """Recipes that answer one question together.

    Args:
        recipes: what to run; the recipes of their teachers come along.

    Example:
        >>> from lkd.study import distillation
        >>> len(distillation("small", teachers=["mini_slak"], objectives=["nkd"], seeds=[0]).recipes)
        5
    """

    recipes: tuple[Recipe, ...]

    def run(self, store: Store | None = None, workers: int | None = None) -> "Results":
        """Carry out what the store does not have, side by side, and collect all.

        Args:
            store: where runs are looked for and kept; by default the store in this machine's home.
            workers: processes; by default one for each CPU, or a single one where there is a GPU.
        """
        return Results(carry_out_all(self.recipes, store or Store(), workers))


@dataclass(frozen=True)
class Results:
    """The runs of a study."""

    runs: list[Run]

    @property
    def table(self) -> pd.DataFrame:
        """One row a run: what was run, its final figures, its id and its seconds."""
        return pd.DataFrame([_row(run) for run in self.runs])

    @property
    def curves(self) -> pd.DataFrame:
        """One row an epoch of a run: what was run, and the figures of its history."""
        return pd.concat([run.history.assign(**_describe(run.recipe)) for run in self.runs], ignore_index=True)

    @property
    def gains(self) -> pd.DataFrame:
        """One row a distilled run: test accuracies of teacher, student alone (same seed) and distilled, and both gains.

        The effective gain is in per cent.
        """
        table = self.table
        teachers = table[table.teacher.isna() & table.train_images.isna()]
        alone = table[table.teacher.isna() & table.train_images.notna()]
        gains = (
            table[table.teacher.notna()]
            .merge(_accuracy(teachers, "teacher"), on=["teacher", "teacher_seed"])
            .merge(_accuracy(alone, "student"), on=["student", "seed"])
            .rename(columns={"test_top1": "distilled_top1"})
        )
        return gains[
            [*_CELL, "teacher_seed", "seed", "teacher_top1", "student_top1", "distilled_top1", "run_id"]
        ].assign(
            direct_gain=direct_gain(gains.distilled_top1, gains.student_top1),
            effective_gain=100 * effective_gain(gains.distilled_top1, gains.student_top1, gains.teacher_top1),
        )

    @property
    def teachers(self) -> pd.DataFrame:
        """One row a trained teacher: its accuracies in percent, the seconds its training took, and its run."""
        table = self.table
        rows = table[table.train_images.isna()].rename(columns={"student": "teacher", "teacher": "_"})
        return rows[["teacher", "seed", "val_top1", "test_top1", "seconds", "run_id"]].reset_index(drop=True)

    @property
    def objectives(self) -> dict[str, dict[str, float]]:
        """The distillation objectives, each with its parameters."""
        recipes = [run.recipe for run in self.runs if run.recipe.teacher is not None]
        return {recipe.objective: dict(recipe.objective_args) for recipe in recipes}

    @property
    def costs(self) -> pd.DataFrame:
        """One row a model: parameters and multiply-accumulates of an image, as stored and without the zeros, and speed.

        A model that was trained dense and sparse has a row for each. A sparse model's zeros are stored and multiplied
        like all else. Speed is measured here and now.
        """
        models = {(run.recipe.student, run.recipe.sparsity, run.recipe.sparse_scope): run for run in self.runs}
        return pd.DataFrame([_cost(run) for run in models.values()])


_CELL = ["student", "teacher", "objective"]


def by_cell(gains: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean, sd, 95 % interval and n of a column of `Results.gains`, one row for each student, teacher and objective."""
    cells = gains.groupby(_CELL, sort=False)[column]
    return cells.apply(lambda values: pd.Series(spread(values)._asdict())).unstack().reset_index()


def paper_tables(gains: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The table of L2S section 4.1 for each student: a row for each teacher and method, as mean ± sd over runs.

    Accuracies in per cent, the direct gain in points, the effective gain in per cent.
    """
    return {student: _paper_table(rows) for student, rows in gains.groupby("student", sort=False)}


def _paper_table(gains: pd.DataFrame) -> pd.DataFrame:
    """Each teacher and each student alone counts once, however many runs it stands beside."""
    cell = ["teacher", "objective"]
    columns = {
        "teacher top-1": ("teacher_top1", ["teacher_seed"]),
        "alone": ("student_top1", ["seed"]),
        "distilled": ("distilled_top1", ["teacher_seed", "seed"]),
        "direct gain": ("direct_gain", ["teacher_seed", "seed"]),
        "effective gain": ("effective_gain", ["teacher_seed", "seed"]),
    }
    table = {
        name: gains.drop_duplicates([*cell, *once]).groupby(cell, sort=False)[column].agg(_mean_and_sd)
        for name, (column, once) in columns.items()
    }
    runs = gains.groupby(cell, sort=False).size()
    return pd.DataFrame({**table, "runs": runs}).reset_index().rename(columns={"objective": "method"})


def compared(gains: pd.DataFrame, reference: str) -> pd.DataFrame:
    """By how much the students of one teacher gain more than those of each other teacher, in points.

    Gains are averaged over students, methods and teacher instances first, then paired by student seed: the 95 %
    interval is over student seeds alone and does not cover how else a teacher could have turned out.

    Args:
        gains: `Results.gains` of a study.
        reference: the one teacher.

    Returns:
        One row for each other teacher: mean difference, sd, interval, seeds, and how much more accurate the reference
        is itself.
    """
    means = gains.pivot_table(index="seed", columns="teacher", values="direct_gain")
    accuracy = gains.groupby("teacher").teacher_top1.mean()
    rows = [
        {
            "compared with": other,
            **spread(means[reference] - means[other])._asdict(),
            "teacher's own difference": accuracy[reference] - accuracy[other],
        }
        for other in gains.teacher.unique()
        if other != reference
    ]
    columns = ["compared with", *Spread._fields, "teacher's own difference"]
    return pd.DataFrame(rows, columns=columns).rename(columns={"n": "seeds", "low": "95 % low", "high": "95 % high"})


def _cost(run: Run) -> dict[str, Any]:
    data = load(run.recipe.data, **run.recipe.view)
    counted = cost(run.student, data.channels, data.size)
    speed = images_per_second(run.student, data.channels, data.size)
    return {
        "model": run.recipe.student,
        "parameters": counted.parameters,
        "non-zero parameters": counted.nonzero_parameters,
        "MMACs": counted.macs / 1e6,
        "non-zero MMACs": counted.nonzero_macs / 1e6,
        "images/s": round(speed),
    }


def _accuracy(table: pd.DataFrame, role: str) -> pd.DataFrame:
    """Test accuracy by model and seed, as columns of a teacher or a student alone."""
    seed = "teacher_seed" if role == "teacher" else "seed"
    columns = {"student": role, "seed": seed, "test_top1": f"{role}_top1"}
    return table[list(columns)].rename(columns=columns)


def _mean_and_sd(values: pd.Series) -> str:
    s = spread(values)
    return f"{s.mean:.2f}" if s.n == 1 else f"{s.mean:.2f} ± {s.sd:.2f}"


def distillation(
    profile: str = "small",
    *,
    teachers: Sequence[str] | None = None,
    students: Sequence[str] | None = None,
    objectives: Sequence[str] | None = None,
    teacher_seeds: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    train_images: int | None = None,
    epochs: int | None = None,
) -> Study:
    """Every student alone, and taught by every teacher with every objective, over seeds.

    A student has the same initial weights and sees the same stream whoever teaches it, so that runs of one seed make
    pairs.

    Args:
        profile: the scale; what is None below is as the profile has it.
        teachers: models that teach, each trained from labels first.
        students: models that learn.
        objectives: how the teachers are used.
        teacher_seeds: one trained instance of each teacher for each.
        seeds: one student for each.
        train_images: images that students learn from.
        epochs: passes of the students over them.

    Raises:
        KeyError: an unknown name, with the nearest known one.
        TypeError, ValueError: an argument that is not a list, or empty, or a value that makes no sense.
    """
    scale = Profile.load(profile)
    teachers = _listed("teachers", teachers, list(scale.teachers), str)
    students = _listed("students", students, list(scale.students), str)
    objectives = _listed("objectives", objectives, list(scale.objectives), str)
    teacher_seeds = _listed("teacher_seeds", teacher_seeds, scale.teacher_seeds, int)
    seeds = _listed("seeds", seeds, scale.seeds, int)
    length = {name: value for name, value in (("train_images", train_images), ("epochs", epochs)) if value is not None}
    taught = [scale.teacher_recipe(model, seed=seed) for model in teachers for seed in teacher_seeds]
    alone = [scale.student_recipe(model, seed=seed, **length) for model in students for seed in seeds]
    distilled = [
        scale.student_recipe(model, teacher=teacher, objective=objective, seed=seed, **length)
        for teacher in taught
        for model in students
        for objective in objectives
        for seed in seeds
    ]
    return Study((*taught, *alone, *distilled))


def _listed(name: str, given: Sequence[Any] | None, default: list[Any], kind: type) -> list[Any]:
    if given is None:
        return default
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(entry, kind) for entry in given):
        raise TypeError(f"{name} must be a list of {kind.__name__}, got {given!r}")
    if not given:
        raise ValueError(f"{name} is empty: give at least one, or None for the profile's")
    if len(set(given)) < len(given):
        raise ValueError(f"{name} names something twice: {given!r}")
    return list(given)


def _describe(recipe: Recipe) -> dict[str, Any]:
    teacher = recipe.teacher
    return {
        "run_id": recipe.run_id,
        "data": recipe.data,
        "train_images": recipe.train_images,
        "student": recipe.student,
        "teacher": recipe.teacher_name,
        "teacher_seed": teacher.seed if isinstance(teacher, Recipe) else None,
        "objective": recipe.objective,
        "seed": recipe.seed,
    }


def _row(run: Run) -> dict[str, Any]:
    return {**_describe(run.recipe), **run.metrics, "seconds": run.provenance["seconds"]}
