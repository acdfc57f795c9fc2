"""The table of chapters agrees with the notebooks."""

import pytest

from lkd.book.runner import NOTEBOOKS, check_chapter
from lkd.study.chapters import CHAPTERS, STUDIES, studies_of

NOT_OF_RUNS = {"profile", "published", "workers", "imagenet", "sets"}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_parameters_are_those_of_the_notebook(chapter: str) -> None:
    declared = set(check_chapter(chapter, {})) - NOT_OF_RUNS
    assert set(CHAPTERS[chapter].parameters) == (declared if CHAPTERS[chapter].studies else set())


def test_every_notebook_of_a_chapter_is_in_the_table() -> None:
    assert CHAPTERS.keys() == NOTEBOOKS.keys()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_without_parameters_it_is_what_claims_are_judged_by(chapter: str) -> None:
    judged = {recipe for name in CHAPTERS[chapter].studies for recipe in STUDIES[name]("smoke").recipes}
    assert {recipe for study in studies_of(chapter, "smoke") for recipe in study.recipes} == judged


def test_controls_have_the_seeds_that_are_asked_for_and_their_own_teachers() -> None:
    studies = studies_of("logit_kd", "smoke", teachers=["mini_vit"], seeds=[5], train_images=64)
    recipes = [recipe for study in studies for recipe in study.recipes]
    stopped = {recipe.student for recipe in recipes if recipe.stop_top1 is not None}
    taught = {recipe for recipe in recipes if recipe.teacher}
    assert stopped == {"mini_slak", "mini_convnext", "mini_swin"}
    assert {recipe.seed for recipe in taught} == {5}
    assert {recipe.teacher_name for recipe in taught if recipe.train_images == 64} == {"mini_vit"}
