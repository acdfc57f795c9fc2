"""Slopes: pairs as they are, and their mean differences."""

import pytest
from figure_tables import TEACHERS, frame_of, gains_table, panel_of

from lkd import figures

ALONE, DISTILLED = figures.Axis("student_top1", "alone", "%"), figures.Axis("distilled_top1", "distilled", "%")


def slopes(table):
    return figures.slopes(table, ALONE, DISTILLED, of="teacher", rows="student", columns="objective")


def test_each_pair_is_a_line_and_its_kind_tells_whether_it_falls():
    table = gains_table()
    figure = slopes(table)
    drawn = set()
    for trace in (each for each in figure.data if each.line.width == 1):
        points = list(zip(trace.x, trace.y, strict=True))
        for (left, before), (right, after), gap in zip(points[::3], points[1::3], points[2::3], strict=True):
            assert left < right and gap == (None, None) and (after < before) == (trace.line.dash == "dot")
            assert round((left + right) / 2) == list(dict.fromkeys(table.teacher.map(TEACHERS))).index(trace.name)
            drawn.add((*panel_of(figure, trace), trace.name, before, after))
    columns = table[["student", "objective", "teacher", "student_top1", "distilled_top1"]]
    assert drawn == {(s, o, TEACHERS[t], *ends) for s, o, t, *ends in columns.itertuples(index=False)}


def test_the_thick_line_and_the_table_have_the_means():
    table = gains_table()
    figure = slopes(table)
    thick = {(*panel_of(figure, trace), trace.name): trace for trace in figure.data if trace.line.width > 1}
    told = frame_of(figure).set_index(["student", "objective", "teacher"])["mean difference (%)"]
    assert len(thick) == len(told) == 8
    for (student, objective, teacher), runs in table.groupby(["student", "objective", "teacher"]):
        trace = thick[student, objective, TEACHERS[teacher]]
        assert list(trace.y)[:2] == pytest.approx([runs.student_top1.mean(), runs.distilled_top1.mean()])
        assert told[student, objective, teacher] == pytest.approx(runs.direct_gain.mean(), abs=5.1e-4)


def test_texts_count_the_pairs_that_rise_and_points_tell_their_pair():
    table = gains_table().assign(run_id=lambda table: [f"id{row}" for row in table.index])
    figure = slopes(table)
    rise = f"{(table.direct_gain > 0).sum()} of {len(table)} pairs rise."
    assert figure.layout.meta["caption"].endswith(rise)
    texts = {text for trace in figure.data if trace.line.width == 1 for text in trace.text if text}
    assert {f"{row.direct_gain:+.2f}, seed {row.seed}, run {row.run_id}" for row in table.itertuples()} == texts
    assert figure.layout.yaxis.title.text == "%"


def test_the_axis_of_each_row_shows_all_its_values():
    table = gains_table()
    figure = slopes(table)
    for row, (_, runs) in enumerate(table.groupby("student", sort=False)):
        low, high = figure.layout["yaxis3" if row else "yaxis"].range
        values = runs[["student_top1", "distilled_top1"]]
        assert low < values.min(axis=None) and values.max(axis=None) < high


def test_one_pair_has_no_mean_and_two_units_are_refused():
    assert len(slopes(gains_table(seeds=(0,))).data) == 8
    with pytest.raises(ValueError, match="before is in '%', after in 'points'"):
        figures.slopes(gains_table(), ALONE, figures.GAIN, of="teacher", rows="student", columns="objective")
