"""Curves: means and bands, views, names at their ends, and axes that fit."""

import itertools

import pandas as pd
import pytest
from figure_tables import BOTH, OBJECTIVES, STUDENTS, TEACHERS, bands, curves_table, frame_of, marks, panel_of
from scipy import stats

from lkd import figures

ALL = list(TEACHERS)


def of_cell(table, student="small", teacher="mini_vit", objective="kd"):
    return table[(table.student == student) & (table.teacher == teacher) & (table.objective == objective)]


def curves_of(figure, visible=True):
    """Curves by student, objective and name, as drawn."""
    return {(*panel_of(figure, trace), trace.name): trace for trace in marks(figure, visible)}


def test_at_first_learning_curves_are_leads_over_the_student_alone_of_the_same_seed():
    table = curves_table()
    drawn = curves_of(figures.learning_curves(table))
    assert len(drawn) == len(STUDENTS) * len(OBJECTIVES) * len(BOTH)
    for (student, objective, name), trace in drawn.items():
        (teacher,) = [each for each in BOTH if TEACHERS[each] == name]
        runs, alone = (
            of_cell(table, student, teacher, objective),
            table[table.student == student].query("teacher.isna()"),
        )
        by_hand = [
            runs[(runs.seed == seed) & (runs.epoch == epoch)].val_top1.item()
            - alone[(alone.seed == seed) & (alone.epoch == epoch)].val_top1.item()
            for epoch in range(1, 5)
            for seed in (0, 1)
        ]
        assert list(trace.x) == [1, 2, 3, 4]
        assert list(trace.y) == pytest.approx([sum(by_hand[i : i + 2]) / 2 for i in range(0, 8, 2)])


def test_the_other_view_has_accuracies_with_the_student_alone_in_every_panel():
    table = curves_table()
    figure = figures.learning_curves(table)
    drawn = curves_of(figure, visible=False)
    assert len(drawn) == len(STUDENTS) * len(OBJECTIVES) * 3
    for (student, objective, name), trace in drawn.items():
        runs = table[table.student == student]
        teacher = next((each for each in BOTH if TEACHERS[each] == name), None)
        runs = of_cell(table, student, teacher, objective) if teacher else runs[runs.teacher.isna()]
        assert list(trace.y) == pytest.approx(runs.groupby("epoch").val_top1.mean().tolist())
        assert teacher or name == "student alone"


def test_the_buttons_swap_curves_names_scales_and_titles():
    figure = figures.learning_curves(curves_table())
    leads, accuracy = figure.layout.updatemenus[0].buttons
    assert [leads.label, accuracy.label] == ["Lead over the student alone", "Accuracy"]
    shown = [list(button.args[0]["visible"]) for button in (leads, accuracy)]
    assert shown[0] == [trace.visible for trace in figure.data] == [not each for each in shown[1]]
    layout = accuracy.args[1]
    assert layout["yaxis.title"]["text"] == "validation top-1 (%)" and not layout["shapes"]
    assert sum("student alone" in note["text"] for note in layout["annotations"]) == len(STUDENTS) * len(OBJECTIVES)
    assert [*leads.args[1]["yaxis.range"]] == [*figure.layout.yaxis.range]


def test_without_the_student_alone_there_are_only_accuracies():
    table = curves_table()
    assert not figures.learning_curves(table[table.teacher.notna()]).layout.updatemenus
    some = table[table.teacher.notna() | (table.seed == 0)]
    assert not figures.learning_curves(some).layout.updatemenus


def test_t_intervals_are_bands():
    table = curves_table(seeds=(0, 1, 2))
    figure = figures.lines(
        table[table.teacher.notna()],
        figures.Axis("epoch", "epoch", ""),
        figures.Axis("val_top1", "top-1", "%"),
        of="teacher",
        rows="student",
        columns="objective",
    )
    trace = curves_of(figure)["small", "kd", "ViT"]
    (band,) = [each for each in bands(figure) if (*panel_of(figure, each), each.name) == ("small", "kd", "ViT")]
    half = of_cell(table).groupby("epoch").val_top1.sem() * stats.t.ppf(0.975, 2)
    ends = [*(trace.y + half), *(trace.y - half)[::-1]]
    assert list(band.y) == pytest.approx(ends, abs=5.1e-4) and list(band.x) == [1, 2, 3, 4, 4, 3, 2, 1]
    told = zip(trace.y - half, trace.y + half, trace.customdata, strict=True)
    assert all(f"95 % interval {low:.2f} to {high:.2f}<br>runs: 3" == text for low, high, text in told)


def test_axes_fit_the_means_however_wide_the_bands_are():
    table = curves_table(seeds=(0, 1)).query("teacher.notna()").assign(val_top1=lambda t: 50 + t.epoch + 30 * t.seed)
    epoch, top1 = figures.Axis("epoch", "epoch", ""), figures.Axis("val_top1", "top-1", "%")
    figure = figures.lines(table, epoch, top1, of="teacher", rows="student", columns="objective")
    low, high = figure.layout.yaxis.range
    assert (low, high) == pytest.approx((66 - 1.5 - 0.36, 69 + 1.5 + 0.36))
    assert min(bands(figure)[0].y) < -100 and max(bands(figure)[0].y) > 200


def names_at_ends(figure):
    """Text and height of the names at the ends of the first panel's curves."""
    return {n.text.partition("</span> ")[2]: n.y for n in figure.layout.annotations if n.yref == "y" and n.x == 1}


def test_each_curve_has_its_name_at_its_end_in_order_and_apart():
    table = curves_table(ALL, epochs=8)
    table = table.assign(val_top1=table.teacher.map({t: 50 + place / 100 for place, t in enumerate(ALL)}).fillna(40))
    figure = figures.learning_curves(table)
    found = names_at_ends(figure)
    assert list(found) == list(TEACHERS.values()) and not figure.layout.showlegend
    low, high = figure.layout.yaxis.range
    heights = list(found.values())
    assert all(b - a >= 17 * (high - low) / 250 for a, b in itertools.pairwise(heights))
    assert low <= min(heights) and max(heights) <= high


def test_a_name_that_is_alone_stands_at_the_end_of_its_curve():
    figure = figures.learning_curves(curves_table(["mini_vit"]))
    (name,) = names_at_ends(figure).items()
    assert name == ("ViT", pytest.approx(curves_of(figure)["small", "kd", "ViT"].y[-1]))


def test_the_table_beside_the_curves_has_accuracies_and_leads():
    table = curves_table()
    told = frame_of(figures.learning_curves(table))
    assert len(told) == len(STUDENTS) * (1 + 2 * len(OBJECTIVES)) * 4 and (told.runs == 2).all()
    rows = told[(told.student == "small") & (told.teacher == "mini_vit") & (told.objective == "kd")]
    accuracy = of_cell(table).groupby("epoch").val_top1.mean()
    alone = table[(table.student == "small") & table.teacher.isna()].groupby("epoch").val_top1.mean()
    assert rows["validation top-1 (%)"].tolist() == pytest.approx(accuracy.tolist(), abs=5.1e-4)
    lead = "lead over student alone (points)"
    assert rows[lead].tolist() == pytest.approx((accuracy - alone).tolist(), abs=1.1e-3)
    assert told[told.teacher == figures.ALONE][lead].isna().all() and rows[f"{lead}, 95 % low"].notna().all()


def test_points_of_few_epochs_all_have_markers_and_of_many_the_last():
    few, many = (marks(figures.learning_curves(curves_table(epochs=count)))[0].marker.size for count in (4, 9))
    assert few == 9 and list(many) == [0] * 8 + [9]


def test_variants_keep_their_order_at_every_length():
    table = pd.DataFrame({"student": "s", "strength": "weak", "variant": ["DKD", "DIST"] * 2, "images": [9, 9, 5, 5]})
    across, up = figures.Axis("images", "images", ""), figures.Axis("top1", "top-1", "%")
    figure = figures.lines(
        table.assign(top1=[4.0, 3, 2, 1]), across, up, of="variant", rows="student", columns="strength"
    )
    assert [(trace.name, list(trace.x), list(trace.y)) for trace in marks(figure)] == [
        ("DKD", [5, 9], [2, 4]),
        ("DIST", [5, 9], [1, 3]),
    ]
