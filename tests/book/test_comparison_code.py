"""The code behind each figure of the comparison, on the published runs."""

import pandas as pd
import pytest

from lkd.book.comparison_cells import CURVES_CODE, MEASURES, profile_cells
from lkd.runs.published import published


@pytest.mark.slow
def test_the_code_of_each_figure_gives_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    found = profile_cells("small", published("small"))
    for measure in MEASURES:
        names: dict[str, pd.DataFrame] = {}
        exec(measure.code, names)
        means = {*map("{:.6f}".format, (cell[measure.column]["mean"] for cell in found if measure.column in cell))}
        if "figures" in names:
            by_cell = names["table"].groupby(["student", "teacher", "objective"])[measure.column].mean()
            assert {*map("{:.6f}".format, by_cell)} <= means and len(by_cell)
        else:
            lines, place = capsys.readouterr().out.splitlines(), 3 if measure.column == "lead" else 2
            printed = [float(line.split()[place]) for line in lines]
            assert {*map("{:.6f}".format, printed)} == means
    exec(CURVES_CODE, {})
