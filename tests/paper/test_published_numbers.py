"""The published numbers: complete, blank if not stated, and derived rows recomputed."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import yaml

from lkd.metrics import direct_gain, effective_gain
from lkd.paper import papers, published_table, table, tables, value
from lkd.paper.published_numbers import FILE, NOT_APPLICABLE, NOT_STATED, format_cell, provenance_words, read_tables

CONTENT = yaml.safe_load(FILE.read_text("utf8"))


def number(id: str, row: Any, column: str) -> float:
    cell = value(id, row=row, column=column).value
    assert isinstance(cell, int | float)
    return cell


@pytest.mark.parametrize("id", tables())
def test_every_row_says_how_it_was_seen(id):
    frame = table(id)
    assert len(frame) == len(published_table(id).rows) and set(frame.provenance) <= set(provenance_words())
    assert frame.attrs["caption"] and frame.attrs["place"] and frame.attrs["source"]


@pytest.mark.parametrize("id", tables())
def test_what_is_not_stated_never_becomes_a_number(id):
    given = next(one for one in CONTENT["tables"] if one["id"] == id)
    frame = table(id)
    for place, row in enumerate(given["rows"]):
        for column, cell in zip(given["columns"], row, strict=True):
            told = value(id, row=place, column=column)
            assert pd.isna(frame.loc[place, column]) == (cell is None)
            if cell is None:
                assert told[:2] == (None, "not_found") and told.shown == NOT_STATED
            elif cell == "-":
                assert told.value is None and told.shown == NOT_APPLICABLE
            else:
                assert told.value == cell and told.provenance == frame.loc[place, "provenance"]


def test_all_tables_belong_to_a_paper_and_come_in_order():
    assert tables() == [one["id"] for one in CONTENT["tables"]]
    assert sorted(tables()) == sorted(id for paper in papers() for id in tables(paper))


@pytest.mark.parametrize(
    ("id", "row", "column", "expected", "word", "place"),
    [
        ("l2s_headline", 0, "top1", 83.1, "source_seen", "abstract"),
        ("l2s_300ep", "ConvNeXt L2S-S", "top1", 84.3, "source_seen", "comparison with other pure ConvNets"),
        ("slak_300ep", "SLaK-T", "top1", 82.5, "source_seen", "README table, 300 epochs"),
        ("slak_kernel_sweep_120ep", {"kernel": "61x61"}, "flops", 5.2, "source_seen", "README table, 120 epochs"),
        (
            "l2s_logs_students_sketch",
            {"student": "ConvNeXt-T", "teacher": "SLaK-T"},
            "top1",
            35.12744,
            "source_seen",
            "authors' log all_student_s.out",
        ),
        ("vkd_model_zoo", "ViT-S/16", "top1", 84.33, "source_seen", "README, model zoo"),
        ("vkd_long_schedule", "ConvNeXt V2-T", "ep1200", 85.03, "secondary", "Table 8"),
        ("nkd_repo_results", {"teacher": "ResNet-34"}, "nkd_top1", 71.96, "source_seen", "nkd.md"),
        ("alexnet_errors", "fog", "error", 0.819324, "source_seen", "ImageNet-C constants"),
    ],
)
def test_numbers_stand_where_they_were_read(id, row, column, expected, word, place):
    assert value(id, row=row, column=column)[:2] == (expected, word)
    assert published_table(id).place.startswith(place)


def test_a_row_of_another_source_names_it():
    assert "timm" not in value("teachers_published_elsewhere", row="CSWin-T", column="top1").source
    assert value("teachers_published_elsewhere", row="SLaK-T 51x51", column="top1").source.startswith("VITA-Group/SLaK")


class TestDerived:
    """Derived rows are recomputed."""

    @pytest.mark.parametrize("size", ["T", "S"])
    def test_gains(self, size):
        distilled, student = (number("l2s_300ep", f"ConvNeXt{kind}-{size}", "top1") for kind in (" L2S", ""))
        teacher = number("slak_300ep", f"SLaK-{size}", "top1")
        row = f"ConvNeXt-{size}"
        assert number("l2s_300ep", f"ConvNeXt L2S-{size}", "teacher_top1") == teacher
        assert number("l2s_300ep_gains", row, "direct_gain") == round(direct_gain(distilled, student), 2)
        assert number("l2s_300ep_gains", row, "effective_gain") == round(
            100 * effective_gain(distilled, student, teacher), 2
        )

    def test_the_gains_of_convnext_t_are_1_point_and_1_21_percent(self):
        assert published_table("l2s_300ep_gains").rows[0][2:] == (1.0, 1.21)

    def test_the_best_masked_image_model_has_83_89_by_both_differences(self):
        short, long = (number("vkd_mim", {"epochs": epochs}, "top1") for epochs in (300, 1200))
        best = value("vkd_mim", row="best masked-image-modelling model", column="top1")
        assert best[:2] == (83.89, "derived")
        assert best.value == round(short - 0.53, 2) == round(long - 1.14, 2)

    @pytest.mark.parametrize("schedule", ["1x", "2x"])
    def test_the_baseline_of_detection(self, schedule):
        distilled = number("vkd_coco", {"backbone": "ResNet-50", "schedule": schedule}, "AP_box")
        gain = number("vkd_coco_baseline", schedule, "stated_gain")
        assert number("vkd_coco_baseline", schedule, "baseline_AP_box") == round(distilled - gain, 1)

    @pytest.mark.parametrize("student", ["ResNet-50", "ConvNeXt-T"])
    @pytest.mark.parametrize(("column", "log"), [("A", "a"), ("R", "r"), ("Sketch", "sketch")])
    def test_differences_over_swin(self, student, column, log):
        slak, swin = (
            number(f"l2s_logs_students_{log}", {"student": student, "teacher": teacher}, "top1")
            for teacher in ("SLaK-T", "Swin-T")
        )
        assert number("l2s_logs_gain_over_swin", student, column) == round(slak - swin, 2)

    @pytest.mark.parametrize("row", range(3))
    def test_costs_of_slak(self, row):
        stored, nonzero, readme, dense, sparse, flops = published_table("slak_stored_cost").rows[row][1:]
        assert math.isclose(nonzero, 0.6 * stored / 1e6, abs_tol=0.2) and abs(nonzero - readme) < 0.5
        assert sparse == round(0.6 * dense, 2) and abs(sparse - flops) < 0.25

    @pytest.mark.slow
    @pytest.mark.parametrize(("name", "row"), [("tiny", 0), ("small", 1), ("base", 2)])
    def test_stored_and_non_zero_parameters_are_the_network_s(self, name, row):
        import timm
        import torch

        with torch.device("meta"):
            parameters = list(timm.create_model(f"slak_{name}").parameters())
        maskable = sum(p.numel() for p in parameters if p.ndim in (2, 4))
        stored, nonzero = published_table("slak_stored_cost").rows[row][1:3]
        assert sum(p.numel() for p in parameters) == stored
        assert round((stored - 0.4 * maskable) / 1e6, 2) == nonzero

    def test_steps_of_the_slak_recipe(self):
        for row in table("slak_recipe").itertuples():
            assert row.images_per_step == row.processes * row.batch * row.accumulation
            assert row.optimizer_steps == 300 * (1281167 // row.images_per_step)
            assert row.mask_updates == row.optimizer_steps // row.update_interval


class TestErrors:
    def test_unknown_names_come_with_the_nearest(self):
        with pytest.raises(KeyError, match="did you mean 'l2s_300ep'"):
            table("l2s_300epp")
        with pytest.raises(KeyError, match="did you mean 'top1'"):
            value("slak_300ep", row=0, column="topl")
        with pytest.raises(KeyError, match="did you mean 'kernel'"):
            value("slak_300ep", row={"kernels": "7x7"}, column="top1")
        with pytest.raises(KeyError, match="did you mean 'VanillaKD'"):
            tables("VanilaKD")

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("SLaK-X", "0 rows of slak_300ep .* the entries are ConvNeXt-T; ConvNeXt-S"),
            ({"kernel": "7x7"}, "3 rows of slak_300ep .* name more columns"),
            (6, "must be 0 to 5, got 6"),
            (-1, "must be 0 to 5, got -1"),
        ],
    )
    def test_a_row_must_be_one(self, row, message):
        with pytest.raises(LookupError, match=message):
            value("slak_300ep", row=row, column="top1")

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (
                lambda t: t.update(provenance="source_sene"),
                "table 'l2s_headline': unknown provenance word .*source_seen",
            ),
            (lambda t: t.update(row_provenance=[]), "row_provenance has 0 words for 1 rows"),
            (lambda t: t["rows"][0].append(1), "row 1 has 3 cells for 2 columns"),
            (lambda t: t["rows"][0].__setitem__(1, [83.1]), r"row 1 has the cell \[83.1\]"),
            (lambda t: t["rows"][0].__setitem__(1, math.nan), "row 1 has the cell nan"),
            (lambda t: t.update(source=["SLaK_REDME"]), "unknown source 'SLaK_REDME': did you mean 'SLaK_README'"),
            (lambda t: t.update(paper="LS2"), "unknown paper 'LS2'"),
            (lambda t: t.update(units={"top": "%"}), "unknown column in units 'top': did you mean 'top1'"),
            (lambda t: t.update(columns=["top1", "top1"]), "columns must differ"),
            (lambda t: t.update(captoin=""), "unknown key 'captoin': did you mean 'caption'"),
            (lambda t: t.pop("caveat"), "table 'l2s_headline': caveat missing"),
            (lambda t: t.update(id="l2s_300ep"), "first 'l2s_300ep': give each table its own"),
        ],
    )
    def test_a_file_that_is_not_whole_is_refused(self, tmp_path, spoil: Callable[[dict[str, Any]], Any], message):
        content = copy.deepcopy(CONTENT)
        spoil(content["tables"][0])
        path = tmp_path / "spoilt.yaml"
        path.write_text(yaml.safe_dump(content))
        with pytest.raises(ValueError, match=message) as raised:
            read_tables(path)
        assert str(raised.value).startswith("spoilt.yaml: ")


@pytest.mark.parametrize(
    ("cell", "words"),
    [(83.1, "83.1"), (3.72, "3.72"), (0.00003, "0.00003"), (50703838, "50703838"), (True, "True"), ("7x7", "7x7")],
)
def test_cells_are_shown_in_full(cell, words):
    assert format_cell(cell) == words
