"""Comparison of a study's numbers with the published ones of the same profile."""

from collections.abc import Callable
from operator import attrgetter

import pandas as pd

from lkd.runs.provenance import numerics_hash
from lkd.study.grid import Study
from lkd.study.results import CELL, Results, by_cell
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
    """Compare means of this machine's runs with published means, given their intervals.

    Args:
        results: the study's results on this machine.
        profile: the profile of the published records.
        cell: columns to group by.
        column: column to average.
        table: function from results to a table; by default the gains.
        name: name of the returned table.
    """
    ours = table(results)
    try:
        published = study.published(profile)
        theirs = table(published)
    except FileNotFoundError:
        means = ours.groupby(cell, sort=False)[column].mean().rename("here").reset_index()
        return Table(means, name, "Means here; no runs with these parameters are published.")
    made_by = {run.provenance.get("numerics") for run in published.runs}
    same = "by the same code" if made_by == {numerics_hash()} else "by code that has changed since"
    return Table(
        compare_means(ours, theirs, cell, column),
        name,
        f"Means here and of the published runs, which were made {same}; within: the 95 % intervals of the two means "
        "overlap.",
        digits=4,
    )


def compare_means(ours: pd.DataFrame, theirs: pd.DataFrame, cell: list[str], column: str) -> pd.DataFrame:
    """Means of a column by cell in two tables, and whether their 95 % intervals overlap.

    Args:
        ours, theirs: tidy tables with one row per run.
        cell: columns to group by.
        column: the column to average.

    Returns:
        One row per cell of ours: mean, published mean, their difference, the half-widths of the two intervals together,
        and whether the difference is within these. Entries are missing without a published cell or repetitions.
    """
    mine, published = (by_cell(table, column, cell).set_index(cell) for table in (ours, theirs))
    joined = mine.join(published.add_suffix("_published"), how="left")
    difference = joined["mean"] - joined["mean_published"]
    widths = (joined.high - joined["mean"]) + (joined.high_published - joined.mean_published)
    within = (difference.abs() <= widths).astype(object).where(difference.notna() & widths.notna(), None)
    table = pd.DataFrame(
        {
            "here": joined["mean"],
            "published": joined["mean_published"],
            "difference": difference,
            "half-widths": widths,
            "within": within,
        }
    )
    return table.reset_index()
