"""Runs and training images of the book's chapters, and the published minutes."""

from typing import NamedTuple

from lkd.data import SOURCES
from lkd.planning.data_shape import data_shape
from lkd.profiles import Profile
from lkd.recipe import Recipe
from lkd.runs.published import profiles, published
from lkd.study.chapters import CHAPTERS, STUDIES


class ChapterCost(NamedTuple):
    """Cost of a chapter.

    Args:
        runs: ids of its runs.
        images: training images of all runs; None if unknown without opening the data.
        minutes: of one CPU core, summed over the published runs; None unless all are published.
    """

    runs: list[str]
    images: int | None
    minutes: float | None


def chapter_costs(profile: str) -> dict[str, ChapterCost]:
    """Cost of each chapter, by its name.

    Args:
        profile: the scale, by its name or YAML file.

    Raises:
        KeyError: an unknown profile, with the nearest known name.

    Example:
        >>> from lkd.planning.chapter_costs import chapter_costs
        >>> cost = chapter_costs("smoke")["released_code"]
        >>> len(cost.runs), cost.images, cost.minutes
        (15, 4881, None)
    """
    name = Profile.load(profile).name
    records = published(name) if name in profiles() else None
    recipes = {study: make(profile).recipes for study, make in STUDIES.items()}
    costs = {}
    for chapter, entry in CHAPTERS.items():
        needed = {recipe.run_id: recipe for study in entry.studies for recipe in recipes[study]}
        images = [_training_images(recipe) for recipe in needed.values()]
        runs = [records.find(recipe) for recipe in needed.values()] if records else []
        minutes = sum(run.provenance["seconds"] for run in runs if run) / 60
        costs[chapter] = ChapterCost(
            sorted(needed),
            sum(count for count in images if count is not None) if None not in images else None,
            minutes if runs and all(runs) else None,
        )
    return costs


def _training_images(recipe: Recipe) -> int | None:
    """Training images of a run over all epochs; None for all images of files, which would have to be listed."""
    if recipe.train_images is not None:
        return recipe.epochs * recipe.train_images
    shape = data_shape(recipe).shape if recipe.data in SOURCES else None
    return recipe.epochs * shape.train if shape else None
