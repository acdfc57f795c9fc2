"""The look of all figures: colours and their contrast, markers, names, texts."""

import json

import numpy as np
import pandas as pd
import pytest
from figure_tables import OBJECTIVES, STUDENTS, TEACHERS, curves_table, frame_of, gains_table, marks, name_of

from lkd import figures

ALONE, DISTILLED = figures.Axis("student_top1", "alone", "%"), figures.Axis("distilled_top1", "distilled", "%")
PLACES = {"of": "teacher", "rows": "student", "columns": "objective"}
FIGURES = {
    "gains": lambda **kw: figures.gains(gains_table(**kw)),
    "curves": lambda **kw: figures.learning_curves(curves_table(**kw)),
    "slopes": lambda **kw: figures.slopes(gains_table(**kw), ALONE, DISTILLED, **PLACES),
}
every_figure = pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)
VARIANTS = [
    "KD",
    "NKD",
    "DKD",
    "DIST",
    "vanilla KD, BCE",
    "vanilla KD, CE",
    "FD",
    "FD, three maps",
    "KD + FD",
    "NKD + FD",
]


def color_of(trace):
    return trace.line.color or trace.marker.color


def looks_of(entries):
    return figures.styles(pd.Series(list(entries)))


@every_figure
def test_axes_say_what_they_show_and_in_what_unit(make):
    layout = make().layout
    below = [layout[axis].title.text for axis in layout if axis.startswith("xaxis") and layout[axis].title.text]
    assert len(below) == len(OBJECTIVES) and set(below) <= {"direct gain (points)", "epoch", "from alone to distilled"}
    beside = {layout[axis].title.text for axis in layout if axis.startswith("yaxis") and layout[axis].title.text}
    assert beside in (set(), {"lead over student alone (points)"}, {"%"})


@every_figure
def test_each_panel_has_its_name_and_pages_learn_how_to_stack_panels(make):
    layout = make().layout
    names = [note.text for note in layout.annotations if note.yref.endswith("domain")]
    assert names == [f"<b>Student {s}</b>, {o.upper()}" for s in STUDENTS for o in OBJECTIVES]
    panels = layout.meta["panels"]
    assert (panels["columns"], panels["narrow"]) == (2, 1)
    inner = layout.height - layout.margin.t - layout.margin.b
    low, high = layout.yaxis.domain[0], layout.yaxis3.domain[1]
    assert (low - high) * inner == pytest.approx(panels["gap"])


@every_figure
def test_names_are_text_in_the_figure_and_as_they_are_beside_it(make):
    name = "<b>net</b> & co"
    figure = make(teachers=["mini_vit", name])
    drawn = [name_of(trace) for trace in figure.data]
    assert "&lt;b&gt;net&lt;/b&gt; &amp; co" in drawn and name not in drawn
    assert not any("<b>net" in trace.hovertemplate for trace in marks(figure))
    assert name in set(frame_of(figure).teacher)


@every_figure
def test_models_have_the_names_of_their_families_and_their_own_at_the_points(make):
    figure = make(teachers=["mini_slak", "slak_tiny", "mini_vit", "my_net"])
    drawn = {name_of(trace) for trace in marks(figure)}
    assert drawn == {"mini_slak", "slak_tiny", "ViT", "my_net"}, "two of one family keep their own names"
    (vit,) = {trace.hovertemplate.split("<br>")[1] for trace in marks(figure) if name_of(trace) == "ViT"}
    assert vit == "teacher: ViT (mini_vit)"
    assert "ViT (" not in figure.layout.meta["alt"]


@every_figure
def test_a_figure_tells_what_it_shows_and_gives_its_numbers(make):
    meta = make().layout.meta
    assert meta["alt"].endswith(".") and len(meta["alt"].split()) > 10 and meta["caption"].endswith(".")
    assert all(len(row) == len(meta["table"]["columns"]) for row in meta["table"]["rows"])


@every_figure
def test_one_run_has_no_interval_and_nothing_reads_nan(make):
    figure = make(seeds=(0,))
    assert not any("nan" in trace.hovertemplate.lower() for trace in marks(figure))
    assert "nan" not in (figure.layout.meta["alt"] + figure.layout.meta["caption"]).lower()
    assert "NaN" not in json.dumps(json.loads(figure.to_json()))


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_point_of_one_run_names_it(seeds):
    table = gains_table(seeds=seeds).assign(run_id=lambda table: [f"id{row}" for row in table.index])
    gains = figures.gains(table)
    curves = curves_table(seeds=seeds).assign(run_id=lambda table: "of" + table.seed.astype(str))
    told = [trace.hovertemplate for trace in gains.data]
    told += [words for trace in marks(figures.learning_curves(curves)) for words in trace.customdata]
    named = [words for words in told if "<br>run " in words]
    assert named == (told if seeds == (0,) else [])
    alone = table[table.seed == 0].drop_duplicates(["student", "teacher", "objective"])
    assert seeds != (0,) or {words.partition("<br>run ")[2].removesuffix("<extra></extra>") for words in told} == {
        *alone.run_id,
        "of0",
    }
    assert "run_id" not in frame_of(gains)


# Colours and markers -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_teacher_has_one_color_and_a_marker_of_its_own_in_all_figures():
    made = [make(teachers=[*TEACHERS, "own_net"]) for make in FIGURES.values()]
    pairs = {(name_of(trace), color_of(trace)) for figure in made for trace in marks(figure)}
    colors = dict(pairs)
    assert len(colors) == len(pairs) == len(set(colors.values())) == 6
    for figure in made[:2]:
        markers = {name_of(trace): trace.marker.symbol for trace in marks(figure)}
        assert len(set(markers.values())) == len(markers)


def test_a_teacher_looks_the_same_by_any_name_of_its_family_and_two_of_a_family_differ():
    names = {"mini_slak": "SLaK", "swin_tiny_patch4_window7_224": "Swin", "vit_small_2020": "ViT"}
    for model, family in names.items():
        assert looks_of([model])[model] == looks_of([family])[family]
    two = looks_of(["mini_slak", "slak_tiny"])
    assert two["mini_slak"] == looks_of(["SLaK"])["SLaK"] and two["slak_tiny"][0] not in {
        looks_of([family])[family][0] for family in TEACHERS.values()
    }


@pytest.mark.parametrize("others", [[], ["DKD"], VARIANTS, VARIANTS[::-1]])
def test_a_method_has_one_look_whatever_is_shown_with_it(others):
    known = looks_of(VARIANTS)
    for method in VARIANTS:
        assert looks_of([*others, method])[method] == known[method]
    assert len({look[:2] for look in known.values()}) == len(VARIANTS)
    assert looks_of(["kd", "nkd+fd", "vanilla"]) == {
        "kd": known["KD"],
        "nkd+fd": known["NKD + FD"],
        "vanilla": known["vanilla KD, BCE"],
    }


def test_neither_methods_nor_sizes_have_the_colour_of_a_teacher():
    teachers = {color for color, *_ in looks_of(TEACHERS).values()}
    others = {color for color, *_ in {**looks_of(VARIANTS), **looks_of(["3", "7", "15, 13, 7", "31"])}.values()}
    assert not teachers & others


def test_sizes_have_a_sequence_of_colours_and_markers_of_their_own():
    looks = list(looks_of(["3", "7", "15, 13, 7", "31"]).values())
    lightness = [luminance(color) for color, *_ in looks]
    assert lightness == sorted(lightness, reverse=True) and len({symbol for _, symbol, _ in looks}) == 4


def test_many_entries_without_a_known_name_have_looks_of_their_own():
    variants = [f"way {number}" for number in range(8)]
    table = gains_table(teachers=variants).rename(columns={"teacher": "variant"})
    figure = figures.intervals(table, figures.GAIN, of="variant", rows="student", columns="objective")
    assert len({(trace.marker.color, trace.marker.symbol) for trace in figure.data}) == 8
    assert len({look[:2] for look in looks_of([f"NKD, kind {number}" for number in range(9)]).values()}) == 9


def luminance(color):
    """WCAG 2.2's relative luminance of #rrggbb."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("paper", ["#ffffff", "#14181e"])
def test_every_color_stands_out_from_a_white_and_from_a_dark_page(paper):
    made = [make(teachers=[*TEACHERS, *(f"own_{number}" for number in range(5))]) for make in FIGURES.values()]
    colors = {color_of(trace) for figure in made for trace in marks(figure)}
    colors |= {shape.line.color for figure in made for shape in figure.layout.shapes}
    colors |= {color for color, *_ in looks_of([*VARIANTS, "label"]).values()}
    assert len(colors) >= 16
    for color in colors:
        dark, light = sorted((luminance(color), luminance(paper)))
        assert (light + 0.05) / (dark + 0.05) >= 3, color


def test_the_scale_of_maps_falls_evenly_in_lightness():
    figure = figures.fields({"flat": np.ones((9, 9))}, title="one")
    shades = [116 * luminance(color) ** (1 / 3) - 16 for _, color in figure.layout.coloraxis.colorscale]
    steps = -np.diff(shades)
    assert len(steps) == 4 and steps == pytest.approx(steps.mean(), rel=0.02)
