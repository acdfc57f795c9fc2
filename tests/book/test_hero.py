"""The figure of the front page: leads counted by hand, positions on the axis, and its text; about 1 second."""

import math

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from lkd.book.hero import Lead, hero_html, leads_in_logs, leads_of
from lkd.paper import table


def gains(*rows: tuple[str, int, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["teacher", "teacher_seed", "seed", "direct_gain"])


def test_a_lead_is_the_gain_over_the_mean_of_all_others() -> None:
    found = leads_of(
        gains(
            *(("mini_slak", 0, seed, 3.0 + seed) for seed in (0, 1)),
            *(("mini_vit", 0, seed, 1.0 + seed) for seed in (0, 1)),
            *(("mini_swin", 0, seed, 2.0 + 3 * seed) for seed in (0, 1)),
        )
    )
    assert [each.family for each in found] == ["SLaK", "Swin", "ViT"]
    assert [each.lead for each in found] == pytest.approx([3.5 - 2.5, 3.5 - 2.5, 1.5 - 3.5])
    assert found[0].low < 1.0 < found[0].high


def test_one_teacher_has_no_lead() -> None:
    assert leads_of(gains(("mini_slak", 0, 0, 1.0), ("mini_slak", 0, 1, 2.0))) == []


def test_the_lead_in_the_logs_is_the_mean_over_the_cells_of_a_teacher() -> None:
    leads = []
    for name in ("a", "r", "sketch"):
        log = table(f"l2s_logs_students_{name}")
        top1 = {row.teacher: row.top1 for row in log.itertuples() if row.student == "ResNet-50"}
        leads.append(top1.pop("ViT-S") - sum(top1.values()) / len(top1))
    found = {each.family: each for each in leads_in_logs()}
    assert found["ViT"].lead == pytest.approx(sum(leads) / 3) and math.isnan(found["ViT"].low)


def drawn(*leads: Lead) -> BeautifulSoup:
    return BeautifulSoup(hero_html({"Here & <b>": leads}), "html.parser")


def test_marks_are_placed_by_their_value_and_stay_inside() -> None:
    soup = drawn(Lead("SLaK", 0.5, 0.25, 0.75), Lead("ViT", -0.5, -3.0, 2.0))
    dot, square = soup.select_one("svg circle"), soup.select_one("svg rect")
    zero, *_ = (float(line["x1"]) for line in soup.select(".lkd-tick")[1:])
    assert float(dot["cx"]) - zero == pytest.approx(zero - (float(square["x"]) + 5))
    width = float(soup.svg["viewbox"].split()[2])
    assert all(0 <= float(line[end]) <= width for line in soup.select("svg line") for end in ("x1", "x2"))


def test_the_text_has_all_numbers_and_titles_are_no_markup() -> None:
    soup = drawn(Lead("SLaK", 0.5, 0.25, 0.75), Lead("ViT", -0.5))
    assert soup.svg["aria-label"] == "Lead in points: SLaK +0.50 [0.25, 0.75]; ViT -0.50"
    assert soup.figcaption.get_text() == "Here & <b>" and not soup.select("b")
