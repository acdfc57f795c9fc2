"""Claims: rules on the tables, and verdicts that follow the numbers."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from lkd.paper import claims as module
from lkd.paper.claims import claims, judge, ledger, read_claims, table_of
from lkd.profiles import PROFILES
from lkd.recipe import Recipe
from lkd.runs.store import Run, Store
from lkd.study import Results, Study, kd_variants
from lkd.study.chapters import STUDIES, gaps

Accuracy = Callable[[Recipe], float]


def results_of(study: Study, accuracy: Accuracy) -> Results:
    """Runs with made-up metrics."""
    runs = []
    for recipe in study.recipes:
        top1 = accuracy(recipe)
        run = Run(recipe, Path("nowhere"), {"val_top1": top1, "test_top1": top1}, build=lambda: pytest.fail("weights"))
        curve = {
            "epoch": range(1, recipe.epochs + 1),
            "val_top1": [top1 * e / recipe.epochs for e in range(1, recipe.epochs + 1)],
        }
        vars(run)["history"] = pd.DataFrame(curve)
        runs.append(run)
    return Results(runs, study.label)


def noisy(recipe: Recipe) -> float:
    return 60 + random.Random(recipe.run_id).gauss(0, 1)


def helped_by(names: set[str], points: float) -> Accuracy:
    """Accuracies with a gain for students of these teachers, plus little noise."""
    return lambda recipe: 60 + points * (recipe.teacher_name in names) + noisy(recipe) / 1000


@pytest.fixture
def traits_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up fields and errors."""

    def field(run: Run, size: int, count: int) -> np.ndarray:
        return np.random.default_rng(int(run.recipe.run_id, 16)).random((16, 16))

    def errors(run: Run, count: int) -> pd.DataFrame:
        wrong = [0.2, *np.random.default_rng(int(run.recipe.run_id, 16)).random(2)]
        return pd.DataFrame({"corruption": ["clean", "fog", "snow"], "severity": [0, 1, 1], "error": wrong})

    def imagenet_errors(run: Run, images: str, count: None) -> pd.DataFrame:
        return errors(run, 0).assign(protocol="standard")

    monkeypatch.setattr("lkd.study.trait_tables.erf_of", field)
    monkeypatch.setattr("lkd.study.trait_tables.errors_of", errors)
    monkeypatch.setattr("lkd.study.trait_tables.imagenet_errors_of", imagenet_errors)


def verdict(study: str, claim: str, accuracy: Accuracy, profile: str = "reference") -> module.Verdict:
    return {v.claim.id: v for v in judge(study, profile, results_of(STUDIES[study](profile), accuracy))}[claim]


# The rules ----------------------------------------------------------------------------------------------------------


def test_there_are_claims_of_both_papers_each_with_its_place() -> None:
    papers = [claim.paper for claim in claims().values()]
    assert len(papers) >= 15 and papers.count("L2S") >= 10 and papers.count("VanillaKD") >= 5
    assert all(claim.place and claim.says.endswith(".") for claim in claims().values())


@pytest.mark.usefixtures("traits_seen")
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("study", STUDIES)
def test_every_rule_finds_its_numbers_in_its_study(study: str, profile: str) -> None:
    found = judge(study, profile, results_of(STUDIES[study](profile), noisy))
    left_out = ["kernels-saturate"] if (study, profile) == ("kernel_size", "small") else []
    assert [v.claim.id for v in found if v.found is None] == left_out


@pytest.mark.parametrize("study", STUDIES)
def test_what_was_not_run_is_judged_so(study: str) -> None:
    assert {v.word for v in judge(study, "small", None)} <= {"not run"}


def test_a_store_without_runs_judges_nothing_and_trains_nothing(store: Store) -> None:
    found = ledger("small", store)
    assert {v.word for v in found} == {"not run"} and len(found) == len(claims())
    assert not list(store.folder.glob("runs/*"))


# Verdicts -----------------------------------------------------------------------------------------------------------

ID = "logits-large-kernels-over-transformers"


@pytest.mark.parametrize(
    ("accuracy", "word"),
    [
        (helped_by({"mini_slak"}, 2.0), "supported"),
        (helped_by({"mini_swin", "mini_vit", "mini_cswin"}, 2.0), "contradicted"),
        (noisy, "inconclusive"),
    ],
    ids=["better", "worse", "no difference"],
)
def test_the_verdict_follows_the_table(accuracy: Accuracy, word: str) -> None:
    found = verdict("logit_kd", ID, accuracy)
    assert found.word == word
    assert (found.times >= 1) == (word == "inconclusive")
    low, high = found.found.interval()
    assert (low > 0) if word == "supported" else (high < 0) if word == "contradicted" else True


def test_teachers_that_were_trained_once_decide_nothing_between_them() -> None:
    clear = helped_by({"mini_slak"}, 2.0)
    between, alone = ID, "logits-help-at-all"
    assert (verdict("logit_kd", between, clear, "small").word, verdict("logit_kd", between, clear).word) == (
        "inconclusive",
        "supported",
    )
    assert verdict("logit_kd", alone, clear, "small").word == "supported"


def test_a_difference_that_should_be_within_a_margin() -> None:
    claim = "kernels-saturate"

    def larger(points: float) -> Accuracy:
        big = {"kernel_sizes": [31, 31, 31]}
        return lambda recipe: 60 + points * (recipe.student_args == big) + noisy(recipe) / 1000

    assert verdict("kernel_size", claim, larger(0.1)).word == "supported"
    assert verdict("kernel_size", claim, larger(3.0)).word == "contradicted"
    assert verdict("kernel_size", claim, larger(0.5)).word == "inconclusive"


def test_a_trained_teacher_counts_once_however_many_students_it_has() -> None:
    found = verdict("kernel_size", "kernels-are-more-accurate", noisy).found
    assert (found.teacher_seeds, found.seeds, found.freedom) == (3, 1, 2)
    single = verdict("kernel_size", "kernels-are-more-accurate", noisy, "small")
    assert single.word == "inconclusive" and math.isnan(single.found.error) and math.isnan(single.p)


def test_p_values_are_corrected_for_the_claims_of_the_study() -> None:
    found = {v.claim.id: v for v in judge("logit_kd", "reference", results_of(STUDIES["logit_kd"]("reference"), noisy))}
    raw = {name: min(1.0, min(v.claim.p_values(v.found))) for name, v in found.items()}
    ordered = sorted(raw, key=raw.__getitem__)
    expected, largest = {}, 0.0
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * raw[name]))
        expected[name] = largest
    assert {name: v.p for name, v in found.items()} == pytest.approx(expected)


def test_the_table_of_verdicts_says_what_a_reader_needs() -> None:
    results = results_of(STUDIES["logit_kd"]("reference"), helped_by({"mini_slak"}, 2.0))
    rows = table_of(judge("logit_kd", "reference", results)).set_index("id")
    row = rows.loc[ID]
    assert (row.verdict, row["teacher instances"], row["student seeds"], row.expected) == ("supported", 3, 5, "> 0")
    assert row["95 % low"] < row.difference < row["95 % high"] and row.difference == pytest.approx(2, abs=0.01)


# The file -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": "logits"}, "claim 'x': unknown study 'logits': did you mean 'logit_kd'"),
        ({"table": "gain"}, "claim 'x': unknown table 'gain': did you mean 'gains'"),
        ({"expects": "over"}, "claim 'x': unknown expects 'over'"),
        ({"marginn": 0}, "claim 'x': unknown key 'marginn': did you mean 'margin'"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused(change: dict, message: str, tmp_path: Path) -> None:
    content = yaml.safe_load(module._FILE.read_text())
    content["claims"] = [{**content["claims"][0], "id": "x", **change}]
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        read_claims(tmp_path / "claims.yaml")


def test_an_unknown_study_is_refused() -> None:
    with pytest.raises(KeyError, match="unknown study 'logit': did you mean 'logit_kd'"):
        judge("logit", "small", None)


def test_a_claim_with_sides_that_were_not_run_is_not_run() -> None:
    study = STUDIES["logit_kd"]("reference")
    results = results_of(study, noisy)
    without = [run for run in results.runs if "mini_slak" not in (run.recipe.student, run.recipe.teacher_name)]
    found = {v.claim.id: v.word for v in judge("logit_kd", "reference", replace(results, runs=without))}
    assert found[ID] == "not run" and found["logits-convnets-over-transformers"] != "not run"


def test_gaps_over_vanilla_kd_of_one_size_alone_have_no_corner_and_of_one_variant_alone_no_rows() -> None:
    for variants, rows in ((["DIST"], 2), (["vanilla KD, BCE"], 0)):
        study = kd_variants("smoke", sizes=[64], strengths=["weak"], variants=variants)
        table = gaps(results_of(study, noisy))
        assert len(table) == rows and set(table.scale) <= {"other data, weak"}
