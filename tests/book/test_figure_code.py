"""The code of a figure on its page: complete, and nothing but that."""

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

from lkd.book.figure_code import code_of_figure
from lkd.book.runner import NOTEBOOKS

CELLS = [
    "from lkd import figures\nfrom lkd.figures import GAIN, Axis\nimport pandas as pd, json\nimport lkd.study",
    "%matplotlib inline",
    "seeds: list[int] = [0]  # seeds",
    "seeds = [1, 2]",
    "def load(count):\n    return pd.DataFrame({'n': range(count)})",
    "table = load(len(seeds))\nunused = json.dumps(1)\nprint(table)",
    "table = table.assign(m=1)\nprint(GAIN)\nfigures.gains(table)",
]


def code(cells, place):
    return code_of_figure([new_code_cell(each) for each in cells], place)


def test_it_has_all_that_the_figure_needs_and_nothing_else():
    assert code(CELLS, len(CELLS) - 1).splitlines() == [
        "import pandas as pd",
        "from lkd import figures",
        "",
        "seeds = [1, 2]",
        "def load(count):",
        "    return pd.DataFrame({'n': range(count)})",
        "table = load(len(seeds))",
        "table = table.assign(m=1)",
        "figures.gains(table)",
    ]


def test_a_cell_without_the_package_is_shown_whole_and_one_without_code_not():
    assert code(["import plotly.graph_objects as go", "x = 3\ngo.Figure()"], 1).endswith("x = 3\ngo.Figure()")
    assert code_of_figure([new_markdown_cell("# Title")], 0) == ""


def test_the_code_of_a_figure_of_a_chapter_draws_that_figure():
    cells = nbformat.read(NOTEBOOKS["logit_kd"], 4).cells
    (place,) = [place for place, cell in enumerate(cells) if "figures.proportions(" in cell.source]
    *before, last = code_of_figure(cells, place).splitlines()
    space = {}
    exec("\n".join(before), space)
    assert eval(last, space).layout.meta["alt"].endswith("Highest in 6 of 6 panels: SLaK.")
