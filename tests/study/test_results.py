"""Recipes of studies, pairs of runs in their tables, and profiles."""

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import timm

from lkd import Recipe
from lkd.profiles import PROFILES, Profile
from lkd.runs.store import Run
from lkd.study import Results, Study, compared, distillation, effect, paper_tables
from lkd.study.compare import MissingRowsError

T_95_OF_3 = 4.302652729911275
"""97.5 % quantile of Student's t with two degrees of freedom, from a table."""


def fake(recipe: Recipe, top1: float) -> Run:
    """A run with made-up metrics."""
    metrics = {"val_top1": top1 - 1, "test_top1": top1}
    run = Run(recipe, Path("nowhere"), metrics, build=lambda: pytest.fail("nobody needs the network"))
    vars(run)["provenance"] = {"seconds": 2.5}
    return run


def faked(study: Study) -> tuple[Results, dict[Recipe, float]]:
    """Results in random order with random accuracies, and these accuracies."""
    draw = random.Random(0)
    accuracy = {recipe: draw.uniform(20, 90) for recipe in study.recipes}
    runs = [fake(recipe, top1) for recipe, top1 in accuracy.items()]
    draw.shuffle(runs)
    return Results(runs), accuracy


# The grid -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "settings", "count"),
    [
        ("smoke", {}, 5 + 2 * 2 + 5 * 2 * 2 * 2),
        ("small", {}, 3 + 2 * 3 + 3 * 2 * 2 * 3),
        ("smoke", {"teacher_seeds": [0, 1, 2]}, 15 + 2 * 2 + 15 * 2 * 2 * 2),
        ("smoke", {"teachers": ["mini_vit"], "students": ("mini_resnet",), "seeds": range(3)}, 1 + 3 + 2 * 3),
    ],
)
def test_every_student_is_alone_and_with_every_teacher_and_objective(
    profile: str, settings: dict[str, Any], count: int
) -> None:
    recipes = distillation(profile, **settings).recipes
    assert len(recipes) == len({recipe.run_id for recipe in recipes}) == count
    assert {recipe.teacher for recipe in recipes} - {None} <= set(recipes)


def test_students_of_one_seed_differ_in_nothing_but_who_teaches_them() -> None:
    recipes = [recipe for recipe in distillation("small").recipes if recipe.train_images is not None]
    by_label = {"teacher": None, "objective": "label", "objective_args": {}}
    alone = {replace(recipe, **by_label) for recipe in recipes}
    assert len(recipes) == 42 and len(alone) == 6 and alone <= set(recipes)
    assert len({(recipe.seed, recipe.stream_id) for recipe in recipes}) == 3


def test_lengths_are_those_of_students_and_not_of_teachers() -> None:
    recipes = distillation("smoke", train_images=77, epochs=9, seeds=[4]).recipes
    plain = distillation("smoke", seeds=[4]).recipes
    assert [replace(r, train_images=128, epochs=2) if r.train_images else r for r in recipes] == list(plain)
    assert {(r.train_images, r.epochs) for r in recipes} == {(None, 1), (77, 9)}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"teachers": "mini_slak"}, TypeError, "teachers must be a list of str, got 'mini_slak'"),
        ({"teachers": [3]}, TypeError, r"teachers must be a list of str, got \[3\]"),
        ({"students": {"mini_resnet"}}, TypeError, "students must be a list of str"),
        ({"students": []}, ValueError, "students is empty: give at least one"),
        ({"objectives": ["kd", "kd"]}, ValueError, r"objectives names something twice: \['kd', 'kd'\]"),
        ({"objectives": ["kdd"]}, KeyError, "unknown objective 'kdd': did you mean 'kd'"),
        ({"objectives": ["label"]}, ValueError, "'label' takes no teacher"),
        ({"seeds": 3}, TypeError, "seeds must be a list of int, got 3"),
        ({"seeds": ["0"]}, TypeError, r"seeds must be a list of int, got \['0'\]"),
        ({"seeds": [0, -1]}, ValueError, "seed must be at least 0 .*got -1"),
        ({"teacher_seeds": [0, 0]}, ValueError, "teacher_seeds names something twice"),
        ({"teachers": ["mini_slack"]}, KeyError, "unknown student model 'mini_slack': did you mean 'mini_slak'"),
        ({"students": ["mini_resnt"]}, KeyError, "unknown student model 'mini_resnt': did you mean 'mini_resnet'"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"train_images": "64"}, TypeError, "train_images must be a whole number, got '64'"),
        ({"profile": "smal"}, KeyError, "unknown profile 'smal': did you mean 'small'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_refused_by_name(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        distillation(**{"profile": "smoke", **settings})


# Tables -------------------------------------------------------------------------------------------------------------


def test_gains_pair_each_run_with_its_teacher_and_with_the_student_alone_of_its_seed() -> None:
    study = distillation("smoke", teacher_seeds=[0, 3], students=["mini_resnet", "mini_convnext"])
    results, accuracy = faked(study)
    rows = results.gains.set_index("run_id")
    distilled = [recipe for recipe in study.recipes if recipe.teacher is not None]
    assert len(rows) == len(distilled) == 80
    for recipe in distilled:
        (teacher,) = [other for other in study.recipes if other == recipe.teacher]
        (alone,) = [
            other
            for other in study.recipes
            if (other.teacher, other.student, other.seed) == (None, recipe.student, recipe.seed) and other.train_images
        ]
        row, gain = rows.loc[recipe.run_id], accuracy[recipe] - accuracy[alone]
        assert (row.teacher, row.teacher_seed, row.seed) == (teacher.student, teacher.seed, recipe.seed)
        assert (row.student, row.objective) == (recipe.student, recipe.objective)
        assert (row.teacher_top1, row.student_top1) == (accuracy[teacher], accuracy[alone])
        assert row.distilled_top1 == accuracy[recipe]
        assert row.direct_gain == pytest.approx(gain)
        assert row.effective_gain == pytest.approx(100 * gain / accuracy[teacher])


def test_tables_tell_teachers_and_objectives_of_the_study() -> None:
    results, accuracy = faked(distillation("smoke", teacher_seeds=[0, 3]))
    teachers = results.teachers
    assert len(teachers) == 10 and (teachers.seconds == 2.5).all()
    told = dict(zip(teachers.run_id, teachers.test_top1, strict=True))
    assert told == {recipe.run_id: accuracy[recipe] for recipe in accuracy if recipe.train_images is None}
    assert results.objectives == {"kd": {"temperature": 1.0, "alpha": 0.9}, "nkd": {"temperature": 1.0, "gamma": 1.0}}
    assert len(results.table) == len(results.runs) == 10 + 4 + 80


def gains(rows: list[tuple[str, str, int, int, float, float, float]]) -> pd.DataFrame:
    """A table of gains by hand: student, teacher, their seeds, and the accuracies of teacher, student and distilled."""
    names = ["student", "teacher", "teacher_seed", "seed", "teacher_top1", "student_top1", "distilled_top1"]
    table = pd.DataFrame(rows, columns=names).assign(objective="kd")
    gain = table.distilled_top1 - table.student_top1
    return table.assign(direct_gain=gain, effective_gain=100 * gain / table.teacher_top1)


BY_HAND = gains(
    [
        ("s", "a", 0, 0, 90.0, 50.0, 53.0),
        ("r", "a", 0, 0, 90.0, 60.0, 65.0),
        ("s", "a", 0, 1, 90.0, 51.0, 57.0),
        ("r", "a", 0, 1, 90.0, 61.0, 67.0),
        ("s", "a", 0, 2, 90.0, 52.0, 56.0),
        ("r", "a", 0, 2, 90.0, 62.0, 68.0),
        ("s", "b", 0, 0, 85.0, 50.0, 51.0),
        ("r", "b", 0, 0, 85.0, 60.0, 61.0),
        ("s", "b", 0, 1, 85.0, 51.0, 56.0),
        ("r", "b", 0, 1, 85.0, 61.0, 64.0),
        ("s", "b", 0, 2, 85.0, 52.0, 56.0),
        ("r", "b", 0, 2, 85.0, 62.0, 66.0),
    ]
)
"""Mean gains by seed: 4, 6, 5 with teacher a and 1, 4, 4 with b: differences 3, 2, 1."""


def test_teachers_are_compared_by_pairs_of_student_seeds() -> None:
    (row,) = compared(BY_HAND, "a").to_dict("records")
    half = T_95_OF_3 / math.sqrt(3)
    assert (row["compared with"], row["teacher instances"], row["student seeds"]) == ("b", 1, 3)
    assert row["difference"] == pytest.approx(2.0)
    assert (row["95 % low"], row["95 % high"]) == (pytest.approx(2.0 - half), pytest.approx(2.0 + half))
    assert row["teacher's own difference"] == pytest.approx(5.0)
    (mirrored,) = compared(BY_HAND, "b").to_dict("records")
    assert mirrored["difference"] == pytest.approx(-2.0) and mirrored["95 % low"] == pytest.approx(-row["95 % high"])


def test_a_single_teacher_is_compared_with_none() -> None:
    alone = compared(BY_HAND[BY_HAND.teacher == "a"], "a")
    assert len(alone) == 0
    assert list(alone.columns) == list(compared(BY_HAND, "a").columns)


def test_the_papers_table_counts_each_teacher_and_each_student_alone_once() -> None:
    table = gains(
        [
            ("s", "a", 0, 0, 80.0, 50.0, 51.0),
            ("s", "a", 0, 1, 80.0, 53.0, 57.0),
            ("s", "a", 1, 0, 83.0, 50.0, 53.0),
            ("s", "a", 1, 1, 83.0, 53.0, 55.0),
            ("s", "b", 0, 0, 75.0, 50.0, 49.0),
            ("r", "b", 0, 0, 75.0, 40.0, 43.0),
        ]
    )
    tables = paper_tables(table)
    assert list(tables) == ["s", "r"]
    first, second = tables["s"].to_dict("records")
    assert first == {
        "teacher": "a",
        "method": "kd",
        "teacher top-1": "81.50 ± 2.12",
        "alone": "51.50 ± 2.12",
        "distilled": "54.00 ± 2.58",
        "direct gain": "2.50 ± 1.29",
        "effective gain": "3.07 ± 1.61",
        "runs": 4,
    }
    assert (second["teacher top-1"], second["direct gain"], second["runs"]) == ("75.00", "-1.00", 1)
    assert tables["r"].to_dict("records")[0]["effective gain"] == "4.00"


def test_costs_tell_what_is_stored_beside_what_is_not_zero(tmp_path: Path) -> None:
    recipe = Recipe(data="digits", student="mini_resnet")
    each = fake(recipe, 50.0), fake(replace(recipe, sparsity=0.4), 50.0)
    dense, sparse = (replace(run, path=tmp_path / run.recipe.run_id) for run in each)
    for run in (dense, sparse):
        vars(run)["student"] = timm.create_model("mini_resnet", in_chans=1, num_classes=10)
    sparse.student.head.fc.weight.data[:5] = 0
    rows = Results([dense, sparse]).costs.to_dict("records")
    assert [row["model"] for row in rows] == ["mini_resnet"] * 2
    for row, zeros in zip(rows, (0, 5 * 32), strict=True):
        assert row["parameters"] - row["non-zero parameters"] == zeros
        assert 1e6 * (row["MMACs"] - row["non-zero MMACs"]) == pytest.approx(zeros)
    assert rows[0]["MMACs"] == rows[1]["MMACs"]


def test_a_teacher_that_is_never_right_has_no_effective_gain() -> None:
    study = distillation("smoke", teachers=["mini_vit", "mini_slak"], students=["mini_resnet"])
    runs = [fake(recipe, 0.0 if recipe.student == "mini_vit" else 50.0) for recipe in study.recipes]
    gains = Results([replace(run, metrics={**run.metrics, "val_top1": 0.0}) for run in runs]).gains
    assert (gains.effective_gain.isna() == (gains.teacher == "mini_vit")).all() and (gains.direct_gain == 0).all()
    table = paper_tables(gains)["mini_resnet"].set_index("teacher")["effective gain"]
    assert set(table["mini_vit"]) == {"–"} and set(table["mini_slak"]) == {"0.00 ± 0.00"}
    with pytest.raises(MissingRowsError, match="no row has"):
        effect(gains, "effective_gain", {"teacher": ["mini_vit"]})


# Profiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_makes_a_study_of_valid_recipes(name: str) -> None:
    profile, recipes = Profile.load(name), distillation(name).recipes
    assert profile.name == name and profile.description.endswith(".")
    assert {recipe.data for recipe in recipes} == {profile.data}
    for shared, models, size in (
        (profile.teacher, profile.teachers, None),
        (profile.student, profile.students, profile.train_images),
    ):
        known = {model: {**shared, **own}["lr"] for model, own in models.items()}
        found = {
            r.student: r.lr for r in recipes if r.teacher is None and r.student in known and r.train_images == size
        }
        assert found and found.items() <= known.items()


def test_a_profile_that_extends_another_differs_in_what_it_says_alone() -> None:
    small, reference = Profile.load("small"), Profile.load("exploratory")
    assert reference.teachers == small.teachers and reference.seeds == [0, 1, 2, 3, 4]
    own = {"teacher_seeds": [0], "sizes": [500, 4000]}
    assert reference.chapters["vanilla_kd"] == {**small.chapters["vanilla_kd"], **own}
    assert "teacher_seeds" not in small.chapters["vanilla_kd"]
