"""Figures from small tables: marks, texts and contrast of colours."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lkd import figures
from lkd.erf import area_ratios

STUDENTS, OBJECTIVES = ["small", "smaller"], ["kd", "nkd"]
TEACHERS = ["mini_slak", "mini_convnext", "mini_cswin", "mini_swin", "mini_vit"]


def gains_table(teachers=("mini_slak", "mini_vit"), seeds=(0, 1, 2)):
    """One row per run, each with a different gain."""
    cells = itertools.product(STUDENTS, teachers, OBJECTIVES, seeds)
    gains = np.random.default_rng(0).normal(1, 2, len(STUDENTS) * len(teachers) * len(OBJECTIVES) * len(seeds))
    columns = ["student", "teacher", "objective", "seed", "direct_gain"]
    return pd.DataFrame([(*cell, gain) for cell, gain in zip(cells, gains, strict=True)], columns=columns)


def curves_table(teachers=("mini_slak", "mini_vit"), seeds=(0, 1), epochs=4):
    """One row per epoch of a run, of baselines and distilled students."""
    kinds = [(student, None, "label", 100.0) for student in STUDENTS]
    kinds += [(s, t, o, 100.0) for s in STUDENTS for t in teachers for o in OBJECTIVES]
    rows = [(*kind, seed, epoch) for kind in kinds for seed in seeds for epoch in range(1, epochs + 1)]
    table = pd.DataFrame(rows, columns=["student", "teacher", "objective", "train_images", "seed", "epoch"])
    return table.assign(val_top1=np.random.default_rng(0).uniform(20, 90, len(table)))


FIGURES = {"gains": lambda **kw: figures.gains(gains_table(**kw)),
           "curves": lambda **kw: figures.learning_curves(curves_table(**kw))}  # fmt: skip
every_figure = pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)


def panel_of(figure, trace):
    """Student and objective of a trace's panel, from the figure's titles."""
    number = int(trace.yaxis[1:] or 1) - 1
    row_start = number - number % len(OBJECTIVES) + 1
    student = figure.layout[f"yaxis{row_start}" if row_start > 1 else "yaxis"].title.text.partition("<br>")[0]
    titles = [note.text.lower() for note in figure.layout.annotations if note.text]
    return student, titles[number % len(OBJECTIVES)]


def color_of(trace):
    return trace.line.color or trace.marker.color


def colors_by_teacher(figure):
    return {(trace.name or trace.y[0], color_of(trace)) for trace in figure.data}


def test_gains_are_plotted_as_mean_and_t_interval():
    table = gains_table()
    figure = figures.gains(table)
    drawn = {(*panel_of(figure, t), t.y[0]): (t.x[0], t.error_x.array[0]) for t in figure.data}
    cells = {(s, o, t): group for (s, t, o), group in table.groupby(["student", "teacher", "objective"]).direct_gain}
    assert drawn.keys() == cells.keys() and len(figure.data) == len(cells)
    for key, values in cells.items():
        half = stats.sem(values) * stats.t.ppf(0.975, 2)
        assert drawn[key] == pytest.approx((values.mean(), half), rel=1e-9), key


def test_curves_are_means_over_seeds_with_the_student_alone_in_every_panel():
    table = curves_table()
    figure = figures.learning_curves(table)
    drawn = {(*panel_of(figure, t), t.name): list(t.y) for t in figure.data}
    assert len(figure.data) == len(drawn) == len(STUDENTS) * len(OBJECTIVES) * 3
    for (student, objective, teacher), values in drawn.items():
        alone = teacher == figures.ALONE
        runs = table[table.student == student]
        runs = runs[runs.teacher.isna()] if alone else runs[(runs.teacher == teacher) & (runs.objective == objective)]
        assert values == pytest.approx(runs.groupby("epoch").val_top1.mean().tolist())
    assert all(list(trace.x) == [1, 2, 3, 4] for trace in figure.data)


def test_curves_have_t_intervals():
    table = curves_table(seeds=(0, 1, 2))
    drawn = {(*panel_of(figure, t), t.name): t for figure in [figures.learning_curves(table)] for t in figure.data}
    trace = drawn["small", "kd", "mini_vit"]
    runs = table[(table.student == "small") & (table.teacher == "mini_vit") & (table.objective == "kd")]
    half = runs.groupby("epoch").val_top1.sem() * stats.t.ppf(0.975, 2)
    assert list(trace.error_y.array) == pytest.approx(half.tolist(), rel=1e-9)
    ends = zip(trace.y - half, trace.y + half, trace.customdata, strict=True)
    assert all(f"95 % interval {low:.2f} to {high:.2f}<br>runs: 3" == told for low, high, told in ends)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_point_of_one_run_names_it(seeds):
    table = gains_table(seeds=seeds).assign(run_id=lambda table: [f"id{row}" for row in table.index])
    gains = figures.gains(table)
    curves = curves_table(seeds=seeds).assign(run_id=lambda table: "of" + table.seed.astype(str))
    told = [trace.hovertemplate for trace in gains.data]
    told += [words for trace in figures.learning_curves(curves).data for words in trace.customdata]
    named = [words for words in told if "<br>run " in words]
    assert named == (told if seeds == (0,) else [])
    alone = table[table.seed == 0].drop_duplicates(["student", "teacher", "objective"])
    assert seeds != (0,) or {words.partition("<br>run ")[2].removesuffix("<extra></extra>") for words in told} == {
        *alone.run_id,
        "of0",
    }
    assert "run_id" not in frame_of(gains)


@every_figure
def test_axes_say_what_they_show_and_in_what_unit(make):
    layout = make().layout
    below = [layout[axis].title.text for axis in layout if axis.startswith("xaxis") and layout[axis].title.text]
    assert len(below) == len(OBJECTIVES) and set(below) <= {"direct gain (points)", "epoch"}
    beside = [layout[axis].title.text for axis in layout if axis.startswith("yaxis") and layout[axis].title.text]
    assert set(beside) in (set(STUDENTS), {f"{student}<br>validation top-1 (%)" for student in STUDENTS})


@every_figure
def test_names_are_text_in_the_figure_and_as_they_are_beside_it(make):
    name = "<b>net</b> & co"
    figure = make(teachers=["mini_vit", name])
    drawn = [trace.name or trace.y[0] for trace in figure.data]
    assert "&lt;b&gt;net&lt;/b&gt; &amp; co" in drawn and name not in drawn
    assert not any("<b>" in trace.hovertemplate for trace in figure.data)
    assert name in set(frame_of(figure).teacher)


def test_each_teacher_stands_once_in_the_legend():
    names = [trace.name for trace in figures.learning_curves(curves_table(TEACHERS)).data if trace.showlegend]
    assert sorted(names) == sorted([*TEACHERS, figures.ALONE])


@every_figure
def test_a_figure_tells_what_it_shows_and_gives_its_numbers(make):
    meta = make().layout.meta
    assert meta["alt"].endswith(".") and len(meta["alt"].split()) > 10 and meta["caption"].endswith(".")
    assert all(len(row) == len(meta["table"]["columns"]) for row in meta["table"]["rows"])


def frame_of(figure):
    return pd.DataFrame(figure.layout.meta["table"]["rows"], columns=figure.layout.meta["table"]["columns"])


def test_the_table_beside_the_gains_has_their_numbers():
    table = gains_table()
    told = frame_of(figures.gains(table)).set_index(["student", "teacher", "objective"])
    cells = table.groupby(["student", "teacher", "objective"]).direct_gain
    pd.testing.assert_series_equal(
        told["mean"].sort_index().astype(float), cells.mean(), check_names=False, rtol=0, atol=5.1e-4
    )
    pd.testing.assert_series_equal(
        told["sd"].sort_index().astype(float), cells.std(), check_names=False, rtol=0, atol=5.1e-4
    )
    assert (told.runs == 3).all() and (told["95 % low"] < told["mean"]).all() and (told["95 % high"] > 0).any()


def test_the_table_beside_the_curves_has_their_numbers():
    table = curves_table()
    told = frame_of(figures.learning_curves(table))
    assert len(told) == len(STUDENTS) * (1 + 2 * len(OBJECTIVES)) * 4 and (told.runs == 2).all()
    runs = table[(table.student == "small") & (table.teacher == "mini_vit") & (table.objective == "kd")]
    rows = told[(told.student == "small") & (told.teacher == "mini_vit") & (told.objective == "kd")]
    expected = runs.groupby("epoch").val_top1.mean().tolist()
    assert rows["validation top-1 (%)"].tolist() == pytest.approx(expected, abs=5.1e-4)


def test_the_sentence_names_the_largest_gain():
    table = gains_table()
    means = table.groupby(["student", "teacher", "objective"]).direct_gain.mean()
    student, teacher, objective = means.idxmax()
    alt = figures.gains(table).layout.meta["alt"]
    assert f"{means.max():+.2f} points, {student} distilled from {teacher} with {objective.upper()}" in alt


@every_figure
def test_one_run_has_no_interval_and_nothing_reads_nan(make):
    figure = make(seeds=(0,))
    assert not any("nan" in trace.hovertemplate.lower() for trace in figure.data)
    assert "nan" not in (figure.layout.meta["alt"] + figure.layout.meta["caption"]).lower()
    assert "NaN" not in json.dumps(json.loads(figure.to_json()))


def test_a_teacher_has_one_color_and_a_marker_of_its_own_in_all_figures():
    made = [make(teachers=[*TEACHERS, "own_net"]) for make in FIGURES.values()]
    colors = dict(set().union(*map(colors_by_teacher, made)))
    assert len(colors) == len(set().union(*map(colors_by_teacher, made))) == 7
    assert len(set(colors.values())) == 7
    for figure in made:
        markers = {(trace.name or trace.y[0]): trace.marker.symbol for trace in figure.data}
        assert len(set(markers.values())) == len(markers)


def luminance(color):
    """WCAG 2.2's relative luminance of #rrggbb."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("paper", ["#ffffff", "#121212"])
def test_every_color_stands_out_from_a_white_and_from_a_dark_page(paper):
    made = [make(teachers=[*TEACHERS, "own_net"]) for make in FIGURES.values()]
    colors = {color_of(trace) for figure in made for trace in figure.data}
    colors |= {shape.line.color for figure in made for shape in figure.layout.shapes}
    assert len(colors) >= 7
    for color in colors:
        dark, light = sorted((luminance(color), luminance(paper)))
        assert (light + 0.05) / (dark + 0.05) >= 3, color


def test_entries_that_are_no_teachers_have_looks_of_their_own():
    variants = [f"way {number}" for number in range(8)]
    table = gains_table(teachers=variants).rename(columns={"teacher": "variant"})
    figure = figures.intervals(table, figures.GAIN, of="variant", rows="student", columns="objective")
    looks = {trace.y[0]: (trace.marker.color, trace.marker.symbol) for trace in figure.data}
    assert len(set(looks.values())) == 8


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
    drawn = {(*trace.hovertemplate.partition("<br>")[0].split(", "), trace.y[0]): trace for trace in figure.data}
    assert len(drawn) == len(table)
    for row in table.itertuples():
        trace = drawn[row.student, row.set, row.teacher.replace("<", "&lt;").replace(">", "&gt;")]
        assert panel_of(figure, trace) == (row.student, row.set)
        assert (trace.x[0], trace.error_x.array[0], trace.error_x.arrayminus[0]) == pytest.approx((row.top1, 2, 1))
        assert f"95 % interval {row.low:.2f} to {row.high:.2f}<br>images: 12,500<extra>" in trace.hovertemplate


def test_panels_of_shares_have_scales_of_their_own_and_the_looks_of_the_teachers():
    figure = shares(shares_table())
    assert not any(axis.matches for axis in figure.select_xaxes()) and not figure.layout.shapes
    looks = {trace.y[0]: (trace.marker.color, trace.marker.symbol) for trace in figure.data}
    known = figures.styles(pd.Series(TEACHERS))
    assert list(looks.values()) == [known[teacher][:2] for teacher in TEACHERS]


def test_the_texts_beside_shares_have_their_numbers_and_the_teacher_ahead():
    table = shares_table()
    table.loc[table.teacher == "Swin", "top1"] = 41.0
    figure = shares(table.assign(top1=table.top1.mask(table.index == 0, 50.0)))
    assert figure.layout.meta["alt"].endswith("Highest in 3 of 4 panels: Swin.")
    told = frame_of(shares(table))
    assert told["top-1 (%)"].tolist() == pytest.approx(table.top1.tolist(), abs=5.1e-4)
    assert (told.images == 12500).all() and told.teacher.tolist() == table.teacher.tolist()


# Receptive fields ---------------------------------------------------------------------------------------------------


def spot(width, side=33):
    """A map that falls off from its centre."""
    away = np.arange(side) - side // 2
    return 1e3 * np.exp(-(away[:, None] ** 2 + away**2) / (2 * width**2))


MAPS = {"near": spot(2), "<b>far</b>": spot(8), "flat": np.ones((33, 33)), "mid": spot(4)}


def squares_of(step):
    """Corners of the squares of a slider's step, by the axis of their map."""
    (change,) = step["args"]
    corners = {}
    for shape in change["shapes"]:
        corners.setdefault(shape["xref"], set()).add((shape["x0"], shape["x1"], shape["y0"], shape["y1"]))
    return corners


def test_the_slider_draws_the_square_of_each_threshold_around_the_centre_of_each_map():
    figure = figures.fields(MAPS, title="some nets")
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["0.2", "0.3", "0.5", "0.99"]
    for step in slider.to_plotly_json()["steps"]:
        ratios = [area_ratios(field, [float(step["label"])])[0] for field in MAPS.values()]
        halves = {f"x{place}": ratio.side / 2 for place, ratio in enumerate(ratios, 1) if ratio.side}
        assert squares_of(step) == {axis: {(-half, half, -half, half)} for axis, half in halves.items()}
        titles = [step["args"][0][f"annotations[{place}].text"] for place in range(len(MAPS))]
        told = [f"{ratio.side} px" if ratio.side else "no square" for ratio in ratios]
        assert [title.partition("<br>")[2] for title in titles] == told
    assert titles[2] == "flat<br>no square"


def test_what_is_drawn_at_first_is_what_the_slider_says():
    layout = figures.fields(MAPS, title="some nets").to_plotly_json()["layout"]
    (slider,) = layout["sliders"]
    first = slider["steps"][slider["active"]]
    assert first["label"] == "0.5" and squares_of(first) == squares_of({"args": [layout]})
    assert [note["text"] for note in layout["annotations"]] == [
        first["args"][0][f"annotations[{place}].text"] for place in range(len(MAPS))
    ]


def test_a_point_of_a_map_says_whose_it_is_and_where():
    figure = figures.fields(MAPS, title="some nets")
    assert all("pixels" in trace.hovertemplate and "log10(x + 1)" in trace.hovertemplate for trace in figure.data)
    assert [trace.hovertemplate.partition("<br>")[0] for trace in figure.data][:2] == ["near", "&lt;b&gt;far&lt;/b&gt;"]
    for trace in figure.data:
        assert (trace.dx, trace.dy) == (1, 1) and trace.z[-trace.y0, -trace.x0] == trace.z.max()
    assert figure.layout.coloraxis.colorbar.title.text


def test_the_table_beside_the_maps_has_the_squares_and_the_sentence_the_widest():
    figure = figures.fields(MAPS, title="some nets")
    told = frame_of(figure).set_index("whose")
    for name, field in MAPS.items():
        for ratio in area_ratios(field):
            side = told.loc[name, f"side at {ratio.threshold:g} (px)"]
            assert side == ratio.side or (ratio.side is None and pd.isna(side))
    assert figure.layout.meta["alt"].endswith("some nets. Most spread out: flat.")


def test_a_field_is_drawn_in_per_cent_of_its_largest_value_a_byte_a_pixel():
    figure = figures.fields({"one": np.array([[0, 9], [99, 999]])}, title="one")
    assert figure.data[0].z.tolist() == [[0, 33], [67, 100]]
    assert json.loads(figure.to_json())["data"][0]["z"]["dtype"] == "u1"
