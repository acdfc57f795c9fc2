"""A study's numbers beside the published ones of the same profile."""

from lkd.provenance import numerics_hash
from lkd.records import beside, profiles
from lkd.study.grid import Study
from lkd.study.results import CELL, Results
from lkd.tables import Table


def reproduced(
    study: Study, results: Results, profile: str, cell: list[str] = CELL, column: str = "direct_gain"
) -> Table:
    """Means of a column of the gains, here and as published, and whether the spread over runs explains the difference.

    Args:
        study: what was asked.
        results: what came out here.
        profile: the scale, whose published records these are compared with.
        cell: columns that a mean is taken for each entry of.
        column: of `Results.gains`.
    """
    try:
        theirs = study.published(profile) if profile in profiles() else None
    except FileNotFoundError:
        theirs = None
    ours = results.gains
    if theirs is None:
        means = ours.groupby(cell, sort=False)[column].mean().rename("here").reset_index()
        return Table(means, "reproduced", "Means here; runs with these parameters were not published.")
    made_by = {run.provenance.get("numerics") for run in theirs.runs}
    same = "by the same code" if made_by == {numerics_hash()} else "by code that has changed since"
    return Table(
        beside(ours, theirs.gains, cell, column),
        "reproduced",
        f"Means here beside those of the published runs, which were made {same}; within: no more than two standard "
        "deviations over runs apart.",
        digits=4,
    )
