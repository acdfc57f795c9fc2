"""Receptive fields: scale, crop, squares, photos."""

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
from figure_tables import frame_of
from PIL import Image

from lkd import figures
from lkd.erf import area_ratios


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
        halves = {f"x{place}".removesuffix("1"): ratio.side / 2 for place, ratio in enumerate(ratios, 1) if ratio.side}
        assert squares_of(step) == {axis: {(-half, half, -half, half)} for axis, half in halves.items()}
        titles = [step["args"][0][f"annotations[{place}].text"] for place in range(len(MAPS))]
        told = [f"{ratio.side} px" if ratio.side else "no square" for ratio in ratios]
        assert [title.partition("</b>, ")[2] for title in titles] == told
    assert titles[2] == "<b>flat</b>, no square"


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
    assert all("pixels across" in trace.hovertemplate for trace in figure.data)
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


def test_a_field_is_drawn_on_a_logarithmic_scale_from_a_hundredth_of_its_largest_value_a_byte_a_pixel():
    field = np.zeros((5, 5))
    field[1:4, 1:4] = [[0, 1, 10], [100, 1000, 31.7], [9, 11, 1000]]
    figure = figures.fields({"one": 3e4 * field}, title="one")
    assert figure.data[0].z[-3:, -3:].tolist() == [[0, 0, 0], [50, 100, 25], [0, 2, 100]]
    assert json.loads(figure.to_json())["data"][0]["z"]["dtype"] == "u1"


def test_maps_are_cropped_to_one_size_around_what_is_drawn_and_the_largest_square():
    small, large = np.zeros((65, 65)), np.zeros((65, 65))
    small[30:35, 30:35], large[28:37, 32] = 1, 1
    figure = figures.fields({"small": small, "large": large}, title="two")
    sides = [ratio.side for field in (small, large) for ratio in area_ratios(field) if ratio.side]
    side = max(9, *sides)
    assert [trace.z.shape for trace in figure.data] == [(side, side)] * 2
    assert figure.data[0].z.sum() == 100 * 25 and figure.data[1].z.sum() == 100 * 9
    assert "The middle of the maps is shown." in figure.layout.meta["caption"]
    assert "The middle" not in figures.fields({"flat": np.ones((9, 9))}, title="one").layout.meta["caption"]


def test_no_map_is_stretched():
    figure = figures.fields(MAPS, title="some nets")
    for trace in figure.data:
        axis = figure.layout[trace.yaxis.replace("y", "yaxis")]
        assert axis.scaleanchor == trace.xaxis and axis.constrain == "domain" and axis.autorange == "reversed"


def pixels_of(image):
    data = base64.b64decode(image.source.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_photo_lies_below_the_map_pixel_by_pixel():
    photo = np.arange(3 * 33 * 33, dtype=float).reshape(3, 33, 33)
    figure = figures.fields({"near": spot(2), "flat": np.ones((33, 33))}, title="two", images=photo)
    for trace, image in zip(figure.data, figure.layout.images, strict=True):
        assert (image.xref, image.yref, image.layer) == (trace.xaxis, trace.yaxis, "below")
        assert (image.x, image.y) == (trace.x0 - 0.5, trace.y0 - 0.5)
        assert (image.sizex, image.sizey) == trace.z.shape[::-1]
        expected = np.round(255 * (photo - photo.min()) / (photo.max() - photo.min())).transpose(1, 2, 0)
        assert (pixels_of(image) == expected).all()
    assert figure.layout.coloraxis.colorscale[0][1].endswith(", 0)")


def test_each_map_may_have_its_own_photo_cropped_as_it_is():
    maps = {"a": np.pad(np.ones((9, 9)), 20), "b": np.pad(np.ones((9, 9)), 20)}
    photos = {"b": np.zeros((49, 49)), "a": np.eye(49)}
    figure = figures.fields(maps, title="two", images=photos)
    assert (pixels_of(figure.layout.images[0]) == 255 * np.eye(9)).all()
    assert not pixels_of(figure.layout.images[1]).any()


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (np.eye(32), ValueError, r"image of 'near' has \(32, 32\) pixels, its map \(33, 33\)"),
        ({"far": np.eye(33)}, KeyError, "no image for 'near'"),
        (np.ones((2, 33, 33)), ValueError, r"shape \(2, 33, 33\): give \(H, W\)"),
        (np.full((33, 33), np.nan), ValueError, "not finite"),
    ],
)
def test_photos_that_do_not_fit_are_refused(images, error, words):
    with pytest.raises(error, match=words):
        figures.fields({"near": spot(2)}, title="one", images=images)
