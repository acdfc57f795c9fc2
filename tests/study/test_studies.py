"""The chapters' studies: their recipes and the columns of their rows."""

from dataclasses import replace
from pathlib import Path

import pytest

from lkd.profiles import PROFILES, Profile
from lkd.study import (
    Results,
    kd_variants,
    kernel_sizes,
    matched,
    method_variants,
    schedule_lengths,
    teacher_sizes,
    trait_study,
)
from lkd.study.chapters import CHAPTERS, STUDIES
from lkd.study.studies import BASELINE_VARIANT

EVERY = [(name, profile) for name in STUDIES for profile in PROFILES]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "profile"), EVERY)
def test_every_distilled_run_has_its_teacher_and_its_student_alone_beside_it(name: str, profile: str) -> None:
    study = STUDIES[name](profile)
    recipes = set(study.recipes)
    distilled = [recipe for recipe in recipes if recipe.teacher is not None]
    assert len(recipes) == len(study.recipes) and distilled
    for recipe in distilled:
        assert {recipe.teacher, recipe.baseline} <= recipes
        assert isinstance(study.label(recipe), dict)
        assert recipe.baseline.stream_id == recipe.stream_id


def test_the_student_alone_differs_in_nothing_but_its_teacher() -> None:
    recipe = next(recipe for recipe in matched("smoke").recipes if recipe.teacher is not None)
    by_label = {"teacher": None, "objective": "label", "objective_args": {}}
    assert recipe.baseline == replace(recipe, **by_label)


def test_matched_teachers_stop_at_the_same_accuracy() -> None:
    teachers = {recipe.teacher for recipe in matched("small", top1=70.0).recipes} - {None}
    assert {teacher.stop_top1 for teacher in teachers} == {70.0} and len(teachers) == 3


def test_a_way_to_teach_has_the_profiles_parameters_and_its_own() -> None:
    made = {
        study.label(r)["variant"]: r
        for study in [method_variants("small", chapter="feature_kd")]
        for r in study.recipes
        if r.teacher
    }
    assert made["KD + FD"].objective_args == {"temperature": 1, "alpha": 0.9, "normalize": "chw", "weight": 1}
    assert made["FD, three maps"].make_objective().stages == 3


def test_lengths_are_multiples_of_the_profiles_own() -> None:
    study = schedule_lengths("small", factors=[0.5, 2], teachers=["mini_slak"])
    assert {recipe.epochs for recipe in study.recipes if recipe.train_images} == {6, 24}


def test_kernels_larger_than_the_map_make_another_teacher() -> None:
    study = kernel_sizes("smoke", sizes=["3", "31"])
    teachers = {study.label(r)["kernel"]: r.teacher for r in study.recipes if r.teacher}
    assert teachers["3"].student == "mini_convnext"
    assert teachers["31"].student_args == {"kernel_sizes": [31, 31, 31]}


def test_plain_kd_is_there_whatever_variants_are_asked_for() -> None:
    study = kd_variants("smoke", variants=["DIST"], sizes=[64], strengths=["weak"])
    assert {study.label(r)["variant"] for r in study.recipes if r.teacher} == {BASELINE_VARIANT, "DIST"}


@pytest.mark.parametrize("sizes", [[64], [64, 128], [32]])
def test_students_of_every_size_are_trained_for_as_many_steps(sizes: list[int]) -> None:
    study = kd_variants("smoke", sizes=sizes, strengths=["weak"])
    learners = [recipe for recipe in study.recipes if recipe.train_images]
    assert {recipe.epochs * recipe.train_images for recipe in learners} == {128}


@pytest.mark.parametrize(
    ("study", "settings", "error", "message"),
    [
        (kernel_sizes, {"sizes": ["5"]}, KeyError, "unknown entry of sizes '5'"),
        (
            lambda p, **k: method_variants(p, chapter="feature_kd", **k),
            {"variants": ["FDD"]},
            KeyError,
            "did you mean 'FD'",
        ),
        (kd_variants, {"strengths": ["stronger"]}, KeyError, "did you mean 'strong'"),
        (kd_variants, {"sizes": [6.5]}, TypeError, "sizes must be a list of int"),
        (schedule_lengths, {"factors": "2"}, TypeError, "factors must be a list of int or float"),
        (trait_study, {"seeds": []}, ValueError, "seeds is empty: give at least one"),
        (teacher_sizes, {"seeds": [0, 0]}, ValueError, "seeds names something twice"),
        (
            matched,
            {"teachers": ["mini_slakk"]},
            KeyError,
            "unknown student model 'mini_slakk': did you mean 'mini_slak'",
        ),
    ],
)
def test_wrong_settings_are_refused_by_name(study, settings, error, message) -> None:
    with pytest.raises(error, match=message):
        study("smoke", **settings)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(KeyError, match="unknown profile 'smal': did you mean 'small'"):
        trait_study("smal")


def test_every_study_belongs_to_a_chapter_and_every_chapter_is_known() -> None:
    assert sum(len(chapter.studies) for chapter in CHAPTERS.values()) == len(STUDIES)
    assert {"matched", "traits", "vanilla_kd"} <= set(Profile.load("small").chapters)


def test_results_of_no_label_say_nothing_more() -> None:
    assert Results([]).label(next(iter(matched("smoke").recipes))) == {}


def test_a_profile_may_run_pairs_of_size_and_recipe_instead_of_all(tmp_path: Path) -> None:
    file = tmp_path / "pairs.yaml"
    file.write_text("extends: smoke\nchapters: {vanilla_kd: {pairs: [[64, weak], [128, strong]]}}\n")
    study = kd_variants(str(file))
    labels = {tuple(study.label(recipe).values())[:2] for recipe in study.recipes if recipe.teacher}
    assert labels == {(64, "weak"), (128, "strong")}
    given = kd_variants(str(file), sizes=[64])
    assert {given.label(recipe)["strength"] for recipe in given.recipes if recipe.teacher} == {"weak", "strong"}


def test_matched_teachers_have_the_recipes_of_the_profile() -> None:
    teachers = {r.teacher for r in matched("reference", seeds=[5]).recipes} - {None}
    assert {(t.student, t.epochs, t.stop_top1) for t in teachers} == {
        ("mini_slak", 1, None), ("mini_convnext", 1, None), ("mini_cswin", 1, None), ("mini_swin", 2, None)
    }  # fmt: skip
