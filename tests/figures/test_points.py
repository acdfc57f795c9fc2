"""Points: means and intervals, their texts and numbers."""

import itertools

import numpy as np
import pandas as pd
import pytest
from figure_tables import STUDENTS, TEACHERS, frame_of, gains_table, panel_of
from scipy import stats

from lkd import figures


def test_gains_are_plotted_as_mean_and_t_interval():
    table = gains_table()
    figure = figures.gains(table)
    drawn = {(*panel_of(figure, t), t.y[0]): (t.x[0], t.error_x.array[0]) for t in figure.data}
    groups = table.groupby(["student", "teacher", "objective"]).direct_gain
    cells = {(s, o, TEACHERS[t]): group for (s, t, o), group in groups}
    assert drawn.keys() == cells.keys() and len(figure.data) == len(cells)
    for key, values in cells.items():
        half = stats.sem(values) * stats.t.ppf(0.975, 2)
        assert drawn[key] == pytest.approx((values.mean(), half), rel=1e-9), key


def test_the_axis_of_a_difference_shows_all_intervals_and_zero_and_others_need_not():
    table = gains_table().assign(direct_gain=lambda table: table.direct_gain + 20)
    figure = figures.gains(table)
    low, high = figure.layout.xaxis.range
    assert low < 0 and high > max(t.x[0] + t.error_x.array[0] for t in figure.data)
    assert {(shape.x0, shape.x1) for shape in figure.layout.shapes} == {(0, 0)}
    error = figures.Axis("direct_gain", "error", "%")
    other = figures.intervals(table, error, of="teacher", rows="student", columns="objective")
    assert other.layout.xaxis.range is None and not other.layout.shapes


def test_entries_without_a_known_name_have_a_heading():
    of_kernels = gains_table(teachers=["3", "7"]).rename(columns={"teacher": "kernel"})
    figure = figures.intervals(of_kernels, figures.GAIN, of="kernel", rows="student", columns="objective")
    assert figure.layout.yaxis.title.text == "kernel"
    assert figures.gains(gains_table()).layout.yaxis.title.text is None


def test_the_table_beside_the_gains_has_their_numbers_by_the_names_in_the_code():
    table = gains_table()
    told = frame_of(figures.gains(table)).set_index(["student", "teacher", "objective"])
    cells = table.groupby(["student", "teacher", "objective"]).direct_gain
    for column, expected in (("mean", cells.mean()), ("sd", cells.std())):
        shown = told[column].sort_index().astype(float)
        pd.testing.assert_series_equal(shown, expected, check_names=False, rtol=0, atol=5.1e-4)
    assert (told.runs == 3).all() and (told["95 % low"] < told["mean"]).all() and (told["95 % high"] > 0).any()


def test_the_sentence_names_the_largest_gain():
    table = gains_table()
    means = table.groupby(["student", "teacher", "objective"]).direct_gain.mean()
    student, teacher, objective = means.idxmax()
    alt = figures.gains(table).layout.meta["alt"]
    assert f"{means.max():+.2f} points, {student} distilled from {TEACHERS[teacher]} with {objective.upper()}" in alt


# Shares of images ---------------------------------------------------------------------------------------------------


FAMILIES = ["SLaK", "ConvNeXt", "CSWin", "Swin", "<b>ViT</b>"]


def shares_table():
    """Accuracies by teacher of two students on two sets, with unequal arms; one panel lacks the last teacher."""
    rows = [(*cell, 12500) for cell in itertools.product(["near", "far"], STUDENTS, FAMILIES)][:-1]
    table = pd.DataFrame(rows, columns=["set", "student", "teacher", "images"])
    values = np.random.default_rng(0).uniform(20, 40, len(table))
    return table.assign(top1=values, low=values - 1, high=values + 2)


def shares(table):
    axis = figures.Axis("top1", "top-1", "%")
    return figures.proportions(table, axis, of="teacher", rows="student", columns="set")


def test_shares_are_plotted_with_their_own_intervals_and_images():
    table = shares_table()
    figure = shares(table)
    drawn = {(*panel_of(figure, trace), trace.y[0]): trace for trace in figure.data}
    assert len(drawn) == len(table)
    for row in table.itertuples():
        trace = drawn[row.student, row.set, row.teacher.replace("<", "&lt;").replace(">", "&gt;")]
        assert (trace.x[0], trace.error_x.array[0], trace.error_x.arrayminus[0]) == pytest.approx((row.top1, 2, 1))
        assert trace.hovertemplate.startswith(f"<b>Student {row.student}</b>, {row.set}<br>")
        assert f"95 % interval {row.low:.2f} to {row.high:.2f}<br>images: 12,500<extra>" in trace.hovertemplate


def test_panels_of_shares_have_scales_of_their_own_and_the_looks_of_the_teachers():
    figure = shares(shares_table().replace("<b>ViT</b>", "ViT"))
    assert not any(axis.matches for axis in figure.select_xaxes()) and not figure.layout.shapes
    looks = {trace.y[0]: (trace.marker.color, trace.marker.symbol) for trace in figure.data}
    known = figures.styles(pd.Series(list(TEACHERS)))
    assert list(looks.values()) == [known[teacher][:2] for teacher in TEACHERS]


def test_the_texts_beside_shares_have_their_numbers_and_the_teacher_ahead():
    table = shares_table()
    table.loc[table.teacher == "Swin", "top1"] = 41.0
    figure = shares(table.assign(top1=table.top1.mask(table.index == 0, 50.0)))
    assert figure.layout.meta["alt"].endswith("Highest in 3 of 4 panels: Swin.")
    told = frame_of(shares(table))
    assert told["top-1 (%)"].tolist() == pytest.approx(table.top1.tolist(), abs=5.1e-4)
    assert (told.images == 12500).all() and told.teacher.tolist() == table.teacher.tolist()
