"""Accuracy against latency."""

import pandas as pd
import pytest

from lkd import figures
from lkd.export.latency import on_frontier

ABOUT = {"runtime": "PyTorch", "threads": 1, "parameters": 1000, "macs": 2_000_000}


def table(batch, points):
    rows = pd.DataFrame(points, columns=["model", "ms", "top1"]).assign(batch=batch, **ABOUT)
    return rows.assign(frontier=on_frontier(rows))


def test_the_figure_has_the_frontier_of_each_panel():
    first = table(1, [("mini_slak", 1.0, 50.0), ("mini_vit", 2.0, 40.0), ("mini_swin", 3.0, None)])
    second = table(32, [("mini_slak", 2.0, 50.0), ("mini_vit", 1.0, 40.0)])
    figure = figures.pareto(pd.concat([first, second]))
    panels = {note.yref.removesuffix(" domain"): note.text for note in figure.layout.annotations}
    assert panels == {"y": "<b>PyTorch</b>, batch 1", "y2": "<b>PyTorch</b>, batch 32"}
    points = [(each.yaxis, *each.text, *each.x) for each in figure.data if each.textposition == "top right"]
    assert points == [("y", "SLaK", 1.0), ("y2", "ViT", 1.0), ("y2", "SLaK", 2.0)]
    assert [(*each.text, *each.x) for each in figure.data if each.textposition == "bottom right"] == [("ViT", 2.0)]
    lines = [(list(each.x), list(each.y)) for each in figure.data if each.mode == "lines"]
    assert lines == [([1.0], [50.0]), ([1.0, 2.0], [40.0, 50.0])]
    meta = figure.layout.meta
    assert meta["alt"].endswith("Frontier in PyTorch, batch 1: SLaK.") and len(meta["table"]["rows"]) == 4


def test_a_table_without_accuracy_is_refused():
    with pytest.raises(ValueError, match="no model has an accuracy to plot: give runs, or data="):
        figures.pareto(table(1, [("mini_slak", 1.0, None)]))
