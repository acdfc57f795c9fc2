"""A study's numbers beside the published ones of the same profile."""

from collections.abc import Callable
from operator import attrgetter

import pandas as pd

from lkd.runs.provenance import numerics_hash
from lkd.study.grid import Study
from lkd.study.results import CELL, Results
from lkd.tables import Table


def compare_with_published(
    study: Study,
    results: Results,
    profile: str,
    cell: list[str] = CELL,
    column: str = "direct_gain",
    table: Callable[[Results], pd.DataFrame] = attrgetter("gains"),
    name: str = "reproduced",
) -> Table:
    """Means of a column of a table, here and as published, and whether the spread over runs explains the difference.

    Args:
        study: what was asked.
        results: what came out here.
        profile: the scale, whose published records these are compared with.
        cell: columns that a mean is taken for each entry of.
        column: what is averaged.
        table: of results; by default the gains.
        name: of the table that is made.
    """
    ours = table(results)
    try:
        published = study.published(profile)
        theirs = table(published)
    except FileNotFoundError:
        means = ours.groupby(cell, sort=False)[column].mean().rename("here").reset_index()
        return Table(means, name, "Means here; runs with these parameters were not published.")
    made_by = {run.provenance.get("numerics") for run in published.runs}
    same = "by the same code" if made_by == {numerics_hash()} else "by code that has changed since"
    return Table(
        beside(ours, theirs, cell, column),
        name,
        f"Means here beside those of the published runs, which were made {same}; within: no more than two standard "
        "deviations over runs apart.",
        digits=4,
    )


def beside(ours: pd.DataFrame, theirs: pd.DataFrame, cell: list[str], column: str) -> pd.DataFrame:
    """Means of a column by cell, ours beside the published ones, and whether the seeds' spread explains the difference.

    Args:
        ours, theirs: tidy tables, one row a run.
        cell: columns that a mean is taken for each entry of.
        column: what is averaged.

    Returns:
        One row for each cell of ours: mean, published mean, their difference, two standard deviations over seeds, and
        whether the difference is at most that large; missing where a cell was not published, or nothing was repeated.
    """
    mine, published = (table.groupby(cell, sort=False)[column].agg(["mean", "std"]) for table in (ours, theirs))
    joined = mine.join(published.add_suffix("_published"), how="left")
    difference, spread = joined["mean"] - joined["mean_published"], 2 * joined["std_published"]
    within = (difference.abs() <= spread).astype(object).where(difference.notna() & spread.notna(), None)
    table = pd.DataFrame(
        {
            "here": joined["mean"],
            "published": joined["mean_published"],
            "difference": difference,
            "two sd over runs": spread,
            "within": within,
        }
    )
    return table.reset_index()
