"""Static pictures show what the figures they are made of show."""

import json
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lkd import figures
from lkd.book.picture import drawn, svg

OBJECTIVES = ["kd", "nkd"]


def as_json(figure: go.Figure) -> dict[str, Any]:
    return json.loads(figure.to_json())


def runs(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """Three runs of each combination, every number another."""
    cells = pd.MultiIndex.from_product([*columns.values(), range(3)], names=[*columns, "seed"]).to_frame(index=False)
    return cells.assign(y=np.random.default_rng(0).normal(1, 2, len(cells)))


@pytest.fixture
def gains() -> go.Figure:
    cells = {"student": ["small", "<i>smaller</i>"], "teacher": ["mini_slak", "a $x$ & b"], "objective": OBJECTIVES}
    return figures.gains(runs(cells).rename(columns={"y": "direct_gain"}))


@pytest.fixture
def curves() -> go.Figure:
    cells = {"student": ["small"], "teacher": ["mini_slak", "mini_vit"], "objective": OBJECTIVES, "epoch": [1, 2, 4]}
    return figures.learning_curves(runs(cells).rename(columns={"y": "val_top1"}))


@pytest.fixture
def maps() -> go.Figure:
    fields = np.random.default_rng(0).uniform(size=(4, 8, 6))
    fields[:, 2:6, 1:5] += 3
    return figures.fields({f"net {place}": field for place, field in enumerate(fields)}, title="some nets")


def names(picture: Figure) -> list[str]:
    """The titles of the panels that are shown."""
    return [panel.get_title() for panel in picture.axes if panel.axison and panel.get_title()]


def test_means_and_intervals_lie_where_they_are(gains: go.Figure) -> None:
    picture = drawn(as_json(gains))
    found = []
    for panel in picture.axes:
        for bar in panel.containers:
            ((low, _), (high, _)) = bar.lines[2][0].get_segments()[0]
            found.append((*bar.lines[0].get_xydata()[0], low, high))
    teachers = ["mini_slak", "a &#36;x&#36; &amp; b"]
    for place, trace in zip(found, gains.data, strict=True):
        mean, half = trace.x[0], trace.error_x.array[0]
        assert place == pytest.approx((mean, teachers.index(trace.y[0]), mean - half, mean + half))
    assert names(picture) == ["KD", "NKD"]
    assert [panel.get_ylabel() for panel in picture.axes] == ["small", "", "<i>smaller</i>", ""]
    assert picture.axes[2].get_xlabel() == "direct gain (points)" and picture.axes[0].yaxis_inverted()
    assert len({panel.get_xlim() for panel in picture.axes}) == 1


def test_lines_have_their_points_and_one_entry_in_the_legend(curves: go.Figure) -> None:
    picture = drawn(as_json(curves))
    lines = [bar.lines[0].get_xydata() for panel in picture.axes for bar in panel.containers]
    assert len(lines) == len(curves.data)
    for line, trace in zip(lines, curves.data, strict=True):
        np.testing.assert_allclose(line, np.column_stack([trace.x, trace.y]))
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["mini_slak", "mini_vit"]


def test_maps_have_their_values_and_squares_and_nothing_stands_in_the_empty_places(maps: go.Figure) -> None:
    picture = drawn(as_json(maps))
    panels = [panel for panel in picture.axes if panel.images]
    for panel, trace in zip(panels, maps.data, strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), trace.z)
        white = next(patch for patch in reversed(panel.patches) if isinstance(patch, Rectangle))
        side = int(panel.get_title().partition("\n")[2].removesuffix(" px"))
        assert (white.get_width(), white.get_height()) == (side, side) and white.get_x() == -side / 2
        assert panel.images[0].get_extent() == [-3.5, 2.5, 3.5, -4.5]
    assert not any(panel.axison for panel in picture.axes[: len(picture.axes) - 1])


def test_the_same_figure_is_the_same_picture_with_names_as_they_are(gains: go.Figure) -> None:
    first, second = svg(as_json(gains)), svg(as_json(gains))
    assert first == second and first is not None
    texts = {text.get_text().strip() for text in BeautifulSoup(first, "html.parser").find_all("text")}
    assert {"a $x$ & b", "<i>smaller</i>", "mini_slak"} <= texts


def test_other_figures_have_no_picture(gains: go.Figure) -> None:
    assert svg(as_json(go.Figure(go.Scatter(x=[1], y=[2])))) is None
    assert svg(as_json(gains.add_bar(x=[1], y=["mini_slak"]))) is None
