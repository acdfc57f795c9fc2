"""Students in the authors' logs: intervals, leads, and the order of teachers."""

from itertools import permutations, product
from math import comb, sqrt

import numpy as np
import pandas as pd
import pytest

from lkd.paper import value
from lkd.paper.author_logs import (
    FAMILIES,
    Cells,
    agreement,
    count_cells,
    family,
    lead_interval,
    leads,
    mean_gains,
    score_interval,
    scores,
)
from lkd.paper.claims import claims
from lkd.profiles import Profile

Z = 1.959964
IMAGES = {"ImageNet-A": 7500, "ImageNet-R": 30000, "ImageNet-Sketch": 50889}
ORDER = {"ResNet-50": ["SLaK", "ConvNeXt", "CSWin", "Swin", "ViT"], "ConvNeXt-T": ["SLaK", "ConvNeXt", "CSWin", "Swin"]}


def top1(name: str, student: str, teacher: str) -> float:
    log = name.removeprefix("ImageNet-").lower()
    cell = value(f"l2s_logs_students_{log}", row={"student": student, "teacher": teacher}, column="top1").value
    assert isinstance(cell, float)
    return cell


def gains_in_order(teachers: list[str]) -> dict[str, float]:
    return {teacher: 0.1 * place for place, teacher in enumerate(reversed(teachers))}


# Accuracies and their intervals -------------------------------------------------------------------------------------


def test_every_row_of_the_logs_is_there_with_its_set_s_number_of_images() -> None:
    table = scores()
    assert len(table) == 3 * (5 + 4) and dict(zip(table.set, table.images, strict=True)) == IMAGES
    assert {student: list(rows.teacher.unique()) for student, rows in table.groupby("student")} == ORDER
    for row in table.itertuples():
        variant = "S" if row.teacher == "ViT" else "T"
        assert row.top1 == top1(row.set, row.student, f"{row.teacher}-{variant}")


def test_accuracies_are_those_of_whole_numbers_of_images() -> None:
    table = scores()
    counts = table.top1 * table.images / 100
    assert (counts - counts.round()).abs().max() < 0.005


def test_five_of_ten_by_hand() -> None:
    # (p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n) = (0.5 + 0.19207 ± 1.95996 * 0.18602) / 1.38415
    assert score_interval(5, 10) == pytest.approx((100 * 0.32748 / 1.38415, 100 * 1.05666 / 1.38415), abs=1e-2)


@pytest.mark.parametrize("row", scores().to_dict("records"), ids=lambda row: f"{row['set']}-{row['student']}")
def test_the_ends_of_an_interval_are_1_96_standard_errors_of_their_own_from_the_accuracy(row: dict) -> None:
    p, ends = row["top1"] / 100, (row["low"] / 100, row["high"] / 100)
    away = [abs(p - end) / sqrt(end * (1 - end) / row["images"]) for end in ends]
    assert away == pytest.approx([Z, Z], abs=2e-4) and ends[0] < p < ends[1]


# Leads --------------------------------------------------------------------------------------------------------------


def test_slak_is_ahead_in_all_18_cells_and_no_interval_has_0() -> None:
    cells = list(product(IMAGES, ORDER, ["ConvNeXt-T", "CSWin-T", "Swin-T"]))
    assert sum(top1(name, student, "SLaK-T") > top1(name, student, other) for name, student, other in cells) == 18
    assert count_cells(leads()) == Cells(18, 18, 18)


def test_leads_are_differences_of_the_logs() -> None:
    table = leads().set_index(["set", "student", "over"])
    assert len(table) == 18 + 3 and not [key for key in table.index if key[1:] == ("ConvNeXt-T", "ViT")]
    assert table.loc[("ImageNet-A", "ConvNeXt-T", "Swin"), "lead"] == pytest.approx(24.26667 - 17.89333)
    assert table.loc[("ImageNet-R", "ResNet-50", "ViT"), "lead"] == pytest.approx(40.16333 - 38.91333)
    assert (table.low < table.lead).all() and (table.lead < table.high).all()


def test_labels_differ_where_a_transformer_taught_the_convnext() -> None:
    table = leads()
    differ = table[~table.equal_labels]
    assert len(differ) == 6 and set(differ.student) == {"ConvNeXt-T"} and set(differ.over) == {"CSWin", "Swin"}
    assert count_cells(table[table.equal_labels]).total == 12


def test_cells_count_only_with_a_lead_and_only_among_teachers_of_both_students() -> None:
    table = leads()
    table.loc[table.over == "ViT", ["lead", "low"]] = -1.0
    assert count_cells(table) == Cells(18, 18, 18)
    table.loc[0, "low"] = -0.1
    table.loc[1, ["lead", "low"]] = -0.1, -0.9
    assert count_cells(table) == Cells(18, 17, 16)


def test_the_interval_of_a_difference_is_newcombe_s() -> None:
    # Statistics in Medicine 17 (1998), table II, method 10: 56/70 - 48/80, and 10/10 - 0/10.
    assert lead_interval(56, 70, 48, 80) == pytest.approx((5.24, 33.39), abs=5e-3)
    assert lead_interval(10, 10, 0, 10) == pytest.approx((60.75, 100.0), abs=5e-3)


def test_leads_of_the_logs_have_the_interval_of_many_draws() -> None:
    random, images = np.random.default_rng(0), pd.Series(IMAGES)
    for row in leads().itertuples():
        n, other = images[row.set], f"{row.over}-{'S' if row.over == 'ViT' else 'T'}"
        drawn = [random.binomial(n, top1(row.set, row.student, name) / 100, 200_000) for name in ("SLaK-T", other)]
        ends = np.quantile(100 * (drawn[0] - drawn[1]) / n, [0.025, 0.975])
        assert (row.low, row.high) == pytest.approx(ends, abs=0.03)


def test_students_of_the_same_images_differ_less_than_the_interval_assumes() -> None:
    random, images = np.random.default_rng(0), 2000
    drawn = []
    for _ in range(300):
        easy = 1 / (1 + np.exp(-random.normal(0, 2, images)))
        drawn.append([(random.random(images) < easy).sum() for _ in range(2)])
    low, high = lead_interval(images // 2, images, images // 2, images)
    first, second = np.array(drawn).T
    assert 100 * (first - second).std() / images < 0.9 * (high - low) / (2 * Z)


@pytest.mark.parametrize(("correct", "images"), [(11, 10), (-1, 10), (0, 0)])
def test_numbers_of_images_that_cannot_be_are_refused(correct: int, images: int) -> None:
    with pytest.raises(ValueError, match=r"correct must be|images must be"):
        score_interval(correct, images)


# The order of teachers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("student", ORDER)
def test_the_logs_own_order_agrees_and_its_reverse_does_not(student: str) -> None:
    teachers = ORDER[student]
    same = agreement(student, gains_in_order(teachers))
    assert same.teachers == tuple(teachers) and same.tau == pytest.approx(1) and not same.swapped
    assert "No pair is swapped" in same.markdown
    other = agreement(student, gains_in_order(teachers[::-1]))
    assert other.tau == pytest.approx(-1) and len(other.swapped) == comb(len(teachers), 2)


@pytest.mark.parametrize("place", range(4))
def test_a_planted_swap_is_found(place: int) -> None:
    teachers = list(ORDER["ResNet-50"])
    teachers[place], teachers[place + 1] = teachers[place + 1], teachers[place]
    found = agreement("ResNet-50", gains_in_order(teachers))
    assert found.tau == pytest.approx(1 - 2 * 1 / 10)
    assert found.swapped == ((teachers[place + 1], teachers[place]),)
    assert f"Here {teachers[place]} is ahead of {teachers[place + 1]}: Kendall's tau is 0.80" in found.markdown


def test_the_p_value_is_the_share_of_orders_at_least_as_extreme() -> None:
    teachers = ORDER["ResNet-50"]
    found = agreement("ResNet-50", gains_in_order([teachers[1], teachers[0], *teachers[2:]]))
    taus = [1 - 2 * sum(a > b for i, a in enumerate(order) for b in order[i:]) / 10 for order in permutations(range(5))]
    assert found.p == pytest.approx(np.mean([abs(tau) > 0.79 for tau in taus]))


def test_only_the_order_of_gains_counts_and_only_of_teachers_in_the_log() -> None:
    gains = gains_in_order(["ViT", "ConvNeXt", "SLaK", "CSWin", "Swin"])
    assert agreement("ResNet-50", gains) == agreement("ResNet-50", {name: gain**3 - 7 for name, gain in gains.items()})
    assert agreement("ConvNeXt-T", gains).teachers == tuple(ORDER["ConvNeXt-T"])
    assert agreement("ConvNeXt-T", gains).swapped == (("SLaK", "ConvNeXt"),)


@pytest.mark.parametrize("gains", [{}, {"ConvNeXt": 1.0, "ViT": 2.0}])
def test_fewer_than_two_teachers_have_no_order(gains: dict[str, float]) -> None:
    found = agreement("ConvNeXt-T", gains)
    assert np.isnan(found.tau) and not found.swapped and "nan" not in found.markdown
    assert "no order to compare" in found.markdown


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(KeyError, match="unknown family of teachers 'mini_slak': did you mean 'SLaK'"):
        agreement("ResNet-50", {"mini_slak": 1.0, "ViT": 0.5})
    with pytest.raises(KeyError, match="did you mean 'ResNet-50'"):
        agreement("resnet50", {"SLaK": 1.0})
    with pytest.raises(ValueError, match="gain of ViT must be"):
        agreement("ResNet-50", {"SLaK": 1.0, "ViT": float("nan")})


def test_gains_are_averaged_by_family_over_students_methods_and_seeds() -> None:
    table = pd.DataFrame({"teacher": ["mini_vit", "mini_slak", "mini_vit"], "direct_gain": [1.0, 4.0, 2.0], "seed": 0})
    assert mean_gains(table) == {"ViT": 1.5, "SLaK": 4.0}
    with pytest.raises(KeyError, match=r"'my_net' is of none of the families SLaK, .*: leave its rows out"):
        mean_gains(table.replace("mini_vit", "my_net"))
    with pytest.raises(KeyError, match="gains has no column 'direct_gain', only teacher, gain, seed"):
        mean_gains(table.rename(columns={"direct_gain": "gain"}))


@pytest.mark.parametrize("profile", ["small", "reference", "imagenet"])
def test_every_teacher_of_a_profile_has_a_family(profile: str) -> None:
    assert {family(name) for name in Profile.load(profile).teachers} == set(FAMILIES)


def test_families_play_the_roles_of_the_claims() -> None:
    claim = claims()["logits-large-kernels-over-transformers"]
    assert claim.low is not None
    assert {family(name) for name in claim.high["teacher"]} == {"SLaK"}
    assert {family(name) for name in claim.low["teacher"]} == {"CSWin", "Swin", "ViT"}
    assert [family(name) for name in ("convnext_tiny.fb_in1k", "convnextv2_tiny", "swinv2_tiny", "")] == [
        "ConvNeXt",
        *[None] * 3,
    ]
