"""Plans of studies and chapters: counts, jobs already done, and missing things."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import lkd
from lkd import Recipe
from lkd.engine.tape_tools import record_tape
from lkd.planning import plan, plan_chapter
from lkd.planning.report import to_text
from lkd.runs.store import Store
from lkd.study.chapters import CHAPTERS, studies_of
from lkd.tables import read

TEACHER = Recipe(data="digits", student="mini_convnext_nano", train_images=128, lr=4e-3)
ALONE = Recipe(data="digits", student="mini_resnet", train_images=128, epochs=2)
TAUGHT = replace(ALONE, teacher=TEACHER, objective="kd", objective_args={"temperature": 2.0})
BY_NKD = replace(TAUGHT, objective="nkd", objective_args={})


@pytest.mark.parametrize("chapter", [name for name, each in CHAPTERS.items() if each.studies])
def test_runs_are_counted_by_role(chapter: str, store: Store) -> None:
    recipes = {recipe for study in studies_of(chapter, "smoke") for recipe in study.recipes}
    teachers = {recipe.teacher for recipe in recipes} - {None}
    distilled = {recipe for recipe in recipes if recipe.teacher}
    counts = plan_chapter(chapter, "smoke", store=store, measure=None).counts
    assert counts["runs"] == counts["left"] == len(recipes)
    assert counts["teachers"] == len(teachers) and counts["distilled"] == len(distilled)
    assert counts["alone"] == len(recipes - teachers - distilled) and counts["stored"] == 0


def test_teachers_come_along() -> None:
    assert plan([TAUGHT], measure=None).counts["teachers"] == 1


def test_what_the_store_has_is_subtracted(store: Store) -> None:
    before = plan([TAUGHT, BY_NKD, ALONE], store=store, measure=None)
    assert before.counts["left"] == 4 and before.counts["tapes"] == 1
    lkd.run(TEACHER, store=store)
    after = plan([TAUGHT, BY_NKD, ALONE], store=store, measure=None)
    assert (after.counts["stored"], after.counts["left"], after.counts["tapes"]) == (1, 3, 1)
    assert before.work.steps - after.work.steps == 2  # of the teacher, 128 images by 64
    assert after.runs[after.runs.stored].run_id.tolist() == [TEACHER.run_id]
    record_tape(TAUGHT, store)
    taped = plan([TAUGHT, BY_NKD, ALONE], store=store, measure=None)
    assert taped.counts["tapes"] == 0 and taped.disk["tapes"] == 0
    assert after.work.steps - taped.work.steps == 4


def test_the_disk_that_a_tape_takes_is_what_it_takes(store: Store) -> None:
    planned = plan([TAUGHT, BY_NKD], store=store, measure=None).disk["tapes"]
    assert planned == record_tape(TAUGHT, store).manifest["bytes"]


def test_a_missing_folder_is_named_with_its_remedy_and_work_is_that_of_imagenet(store: Store) -> None:
    few = {"teachers": ["vit_small_2020"], "factors": [1]}
    found = plan_chapter("longer_training", "imagenet", parameters=few, store=store, measure=30)
    assert found.hours is None and "not timed" in str(found)
    assert "imagenet: it needs train/ with one folder of images per class" in found.missing[0]
    steps = [(1_231_167 // batch, epochs) for batch, epochs in ((4096, 300), (1024, 120), (1024, 120))]
    assert found.work.steps == sum(each * epochs for each, epochs in steps)


def test_figures_are_not_known_where_the_data_is_not(store: Store) -> None:
    recipe = Recipe(data="folder:/nowhere/pets", student="resnet18")
    found = plan([recipe], store=store)
    told = found.to_dict()
    assert told["steps"] is told["flops"] is told["gpu"]["hours"] is told["disk_bytes"]["runs"] is None
    assert told["jobs"][0]["memory MiB"] is None and told["jobs"][0]["jobs"] == 1
    assert "Work: unknown" in str(found)


def test_changed_images_are_missing_where_robustness_is_asked_of_imagenet(tmp_path: Path) -> None:
    few = {"teachers": ["vit_small_2020"], "students": ["resnet50"], "imagenet": str(tmp_path)}
    found = plan_chapter("robustness", "imagenet", parameters=few, measure=None)
    assert any("ImageNet-C: there is no folder" in lack and "zenodo" in lack for lack in found.missing)


def test_words_table_and_json_have_the_same_numbers(store: Store) -> None:
    found = plan([TAUGHT, BY_NKD, ALONE], store=store, measure=None)
    told = json.loads(json.dumps(found.to_dict()))
    for name in ("steps", "images"):
        assert sum(row[name] for row in told["jobs"]) == told[name]
        assert f"{told[name]:,} {name}" in str(found)
    assert sum(row["TFLOP"] for row in told["jobs"]) == pytest.approx(told["flops"] / 1e12)
    assert sum(row["left"] for row in told["jobs"]) == told["counts"]["left"] + told["counts"]["tapes"]
    shown = found._repr_mimebundle_()
    table = read(shown["application/vnd.lkd.table+json"])
    assert table["images"].tolist() == [row["images"] for row in told["jobs"]]
    assert "<table" in shown["text/html"]


def test_sizes_and_work_are_told_in_units_that_read_well(store: Store) -> None:
    huge = Recipe(data="folder:/nowhere/imagenet", student="resnet50", batch_size=1024, epochs=300)
    small, large = (plan([recipe], store=store, measure=None) for recipe in (ALONE, huge))
    assert "GFLOP (" in str(small) and "EFLOP (" in str(large)
    (memory,) = large.frame["memory MiB"] / 2**10
    assert "MiB per process" in str(small) and f"up to {memory:.3g} GiB per process" in str(large)
    assert "memory MiB" in str(small) and "memory GiB" in str(large)
    assert str(large).endswith(f" {memory:.3g}")


def test_columns_without_any_figure_are_left_out_of_the_table_and_kept_as_data(store: Store) -> None:
    found = plan([ALONE], store=store, measure=None)
    head = str(found).splitlines()[-2].split()
    assert "hours" not in head and "teacher" not in head and "steps" in head
    assert found.to_dict()["jobs"][0]["hours"] is None
    assert "hours" not in read(found._repr_mimebundle_()["application/vnd.lkd.table+json"])
    assert "hours" in to_text(found.frame.assign(hours=0.5))


@pytest.mark.parametrize(
    ("studies", "arguments", "message"),
    [
        ([], {}, "there is no recipe to plan"),
        ([[ALONE]], {"measure": -1}, "measure must be above 0, got -1"),
        ([[ALONE]], {"workers": 0}, "workers must be at least 1"),
        ([[ALONE]], {"gpus": 0}, "gpus must be at least 1"),
        ([[ALONE]], {"utilisation": 2}, "utilisation must be"),
        ([[replace(ALONE, batch_size=256)]], {}, "batch_size 256 is more than the 128 training images"),
        ([[replace(ALONE, train_images=5000)]], {}, "train_images 5000 is more than the 1297 of 'digits'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    studies: list[list[Recipe]], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plan(*studies, **arguments)


# On this device -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_steps_are_timed_and_nothing_is_left_in_the_store(store: Store) -> None:
    found = plan([TAUGHT, BY_NKD, ALONE], store=store, measure=1, workers=2)
    assert found.hours > 0 and (found.frame.hours > 0).all() and found.frame.hours.sum() < 2 * found.hours
    assert found.duration.batches == {64: 64}
    assert not store.folder.exists()


@pytest.mark.slow
def test_of_a_large_batch_a_smaller_one_is_timed_and_that_is_said(store: Store) -> None:
    large = Recipe(data="digits", student="mini_vit", batch_size=1024)
    found = plan([large], store=store, measure=1, workers=1)
    (smaller,) = found.duration.batches.values()
    assert smaller < 1024 and f"{smaller} images instead of 1024" in str(found)
