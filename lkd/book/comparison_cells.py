"""The numbers of the comparison of published runs: quantities by student, teacher and objective."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from lkd.runs.store import Store
    from lkd.study import Results

Cell = dict[str, Any]
SPREAD = ("mean", "low", "high", "n")
CURVES = "curve"
_PROFILE = 'profile = "small"  # or another one of this page'


class Measure(NamedTuple):
    """A quantity to compare.

    Attributes:
        column, baseline: its columns for distilled runs and, if they have it, for their baselines.
        title, unit: of its axis.
        code: lines that draw or print its means for one profile.
    """

    column: str
    baseline: str | None
    title: str
    unit: str
    code: str

    @property
    def label(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})"


def _drawn(column: str, baseline: str | None, title: str, unit: str, functions: str, table: str) -> Measure:
    """A quantity that is a column of a table of `lkd.study`, drawn with intervals."""
    code = f"""\
from lkd import figures
from lkd.figures import Axis
from lkd.study import {functions}

{_PROFILE}
table = {table}
axis = Axis("{column}", "{title}", "{unit}")
figures.intervals(table, axis, of="teacher", rows="student", columns="objective")
"""
    return Measure(column, baseline, title, unit, code)


_RUNS, _TRAITS = "distillation(profile).published(profile)", "trait_study(profile).published(profile)"
GAINS = (
    _drawn("direct_gain", None, "direct gain", "points", "distillation", f"{_RUNS}.gains"),
    _drawn("distilled_top1", "student_top1", "test top-1", "%", "distillation", f"{_RUNS}.gains"),
)
SPEED = _drawn(
    "area_gain", None, "lead over the epochs", "points", "distillation, learning_speed", f"learning_speed({_RUNS})"
)
SHARE = _drawn(
    "share",
    "alone_share",
    "effective receptive field",
    "% of the area",
    "erf_table, trait_study",
    f"erf_table({_TRAITS})",
)
ERROR = _drawn(
    "error",
    "alone_error",
    "error on corrupted images",
    "%",
    "robustness_table, trait_study",
    f"robustness_table({_TRAITS})",
)
LEAD = Measure(
    "lead",
    None,
    "lead over the other teachers",
    "points",
    f"""\
from lkd.study import distillation, effect

{_PROFILE}
gains = {_RUNS}.gains
for (student, objective), group in gains.groupby(["student", "objective"]):
    for teacher in group.teacher.unique():
        others = [other for other in group.teacher.unique() if other != teacher]
        lead = effect(group, "direct_gain", {{"teacher": [teacher]}}, {{"teacher": others}})
        print(student, objective, teacher, lead.mean, lead.interval())
""",
)
OVER_KD = Measure(
    "over_kd",
    None,
    "lead of NKD over KD",
    "points",
    f"""\
from lkd.study import distillation, effect

{_PROFILE}
gains = {_RUNS}.gains
for (student, teacher), group in gains.groupby(["student", "teacher"]):
    lead = effect(group, "direct_gain", {{"objective": ["nkd"]}}, {{"objective": ["kd"]}})
    print(student, teacher, lead.mean, lead.interval())
""",
)
MEASURES = (*GAINS, LEAD, OVER_KD, SPEED, SHARE, ERROR)
CURVES_CODE = f"""\
from lkd import figures
from lkd.study import distillation

{_PROFILE}
figures.learning_curves({_RUNS}.curves)
"""


def profile_cells(profile: str, store: Store) -> list[Cell]:
    """Measures and learning curve of each combination of student, teacher and objective, and of each baseline.

    Args:
        profile: the scale.
        store: where its runs are found.

    Returns:
        For each cell its names; by the column of each available `Measure`, mean, 95 % interval, and number of runs;
        and as `curve` the mean accuracy by epoch. Empty if a run is missing in the store.

    Example:
        >>> import tempfile
        >>> from lkd.book.comparison_cells import profile_cells
        >>> from lkd.runs.store import Store
        >>> profile_cells("small", Store(tempfile.mkdtemp()))
        []
    """
    from lkd.study import distillation

    results = distillation(profile).find(store)
    return cells_of(profile, results, _traits(profile, store)) if results else []


def cells_of(profile: str, results: Results, traits: Iterable[tuple[Measure, pd.DataFrame]] = ()) -> list[Cell]:
    """The cells of a study's results and of its trait tables: see `profile_cells`."""
    from lkd.study import by_cell, learning_speed
    from lkd.study.results import CELL

    tables = [*((measure, results.gains) for measure in GAINS), (SPEED, learning_speed(results)), *traits]
    spreads = {measure: by_cell(_with_baselines(table, measure), measure.column) for measure, table in tables}
    found: dict[tuple[str, ...], Cell] = {}
    for measure, means in {**spreads, LEAD: _leads(results.gains), OVER_KD: _leads_over_kd(results.gains)}.items():
        for row in means.astype(object).where(means.notna(), None).to_dict("records"):
            names = tuple(row[name] for name in CELL)
            about = dict(zip(CELL, names, strict=True))
            cell = found.setdefault(names, {"profile": profile, **about, CURVES: {"epoch": [], "val_top1": []}})
            cell[measure.column] = {name: row[name] for name in SPREAD}
    for names, curve in _curves(results).items():
        found[names][CURVES] = curve
    return list(found.values())


def _leads(gains: pd.DataFrame) -> pd.DataFrame:
    """Gain of each teacher's students minus the mean over the students of the other teachers, by cell."""
    rows = []
    for (student, objective), group in gains.groupby(["student", "objective"], sort=False):
        for teacher in group.teacher.unique():
            others = [other for other in group.teacher.unique() if other != teacher]
            if others:
                names = {"student": student, "teacher": teacher, "objective": objective}
                rows.append({**names, **_difference(group, {"teacher": [teacher]}, {"teacher": others})})
    return _differences(rows)


def _leads_over_kd(gains: pd.DataFrame) -> pd.DataFrame:
    """Gain by NKD minus gain by KD with the same teachers and seeds, in the cells of NKD."""
    rows = []
    for (student, teacher), group in gains.groupby(["student", "teacher"], sort=False):
        if {"kd", "nkd"} <= set(group.objective):
            names = {"student": student, "teacher": teacher, "objective": "nkd"}
            rows.append({**names, **_difference(group, {"objective": ["nkd"]}, {"objective": ["kd"]})})
    return _differences(rows)


def _difference(gains: pd.DataFrame, high: Mapping[str, list[str]], low: Mapping[str, list[str]]) -> dict[str, float]:
    """Mean difference of gains with its interval, and the number of runs with `high`."""
    from lkd.study import effect

    ((column, entries),) = high.items()
    seen = effect(gains, GAINS[0].column, high, low)
    return dict(zip(SPREAD, (seen.mean, *seen.interval(), int(gains[column].isin(entries).sum())), strict=True))


def _differences(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    from lkd.study.results import CELL

    return pd.DataFrame(rows, columns=[*CELL, *SPREAD])


def _traits(profile: str, store: Store) -> list[tuple[Measure, pd.DataFrame]]:
    """Trait tables of a profile's runs, if they were measured."""
    from lkd.study import erf_table, robustness_table, trait_study

    results, found = trait_study(profile).find(store), []
    for measure, table in ((SHARE, erf_table), (ERROR, robustness_table)):
        try:
            if results:
                found.append((measure, table(results)))
        except FileNotFoundError:
            continue
    return found


def _with_baselines(table: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """A measure of the distilled runs and, if the measure has them, of the baselines."""
    import pandas as pd

    from lkd.figures import ALONE
    from lkd.study.compare import REPLICATES
    from lkd.study.results import CELL

    distilled = table[[*CELL, *REPLICATES, measure.column]]
    if measure.baseline is None:
        return distilled
    once = table.drop_duplicates(["student", "seed"])
    baseline = {"teacher": ALONE, "objective": "label", "teacher_seed": None, measure.column: once[measure.baseline]}
    alone = once.assign(**baseline)
    return pd.concat([distilled, alone[distilled.columns]], ignore_index=True)


def _curves(results: Results) -> dict[tuple[str, ...], dict[str, list[float]]]:
    """Mean accuracy by epoch of each cell."""
    from lkd.figures import ALONE
    from lkd.study.results import CELL

    curves = results.curves
    means = curves.assign(teacher=curves.teacher.fillna(ALONE)).groupby([*CELL, "epoch"], sort=False).val_top1.mean()
    return {
        names: {"epoch": curve.index.get_level_values("epoch").tolist(), "val_top1": curve.tolist()}
        for names, curve in means.groupby(CELL, sort=False)
    }
