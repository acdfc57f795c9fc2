"""Verdicts follow the numbers: differences, equivalence, non-inferiority, families, and registration."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lkd.paper import registry
from lkd.paper.claims import claims
from lkd.paper.verdicts import Verdict, judge, judge_all, ledger, table_of
from lkd.profiles import PROFILES, Profile
from lkd.recipe import Recipe
from lkd.runs.store import Run, Store
from lkd.study import Results, Study
from lkd.study.chapters import STUDIES

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
        vars(run)["history"], vars(run)["provenance"] = pd.DataFrame(curve), {}
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


def verdict(study: str, claim: str, accuracy: Accuracy, profile: str = "exploratory") -> Verdict:
    return {v.claim.id: v for v in judged(study, profile, accuracy)}[claim]


def judged(study: str, profile: str, accuracy: Accuracy) -> list[Verdict]:
    """Verdicts on the claims of a study, where no other study was run."""
    found = judge_all(profile, {study: results_of(STUDIES[study](profile), accuracy)})
    return [v for v in found if v.claim.study == study]


# The rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("traits_seen")
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("study", STUDIES)
def test_every_rule_finds_its_numbers_in_its_study(study: str, profile: str) -> None:
    scale = Profile.load(profile)
    some = {"teacher_seeds": scale.teacher_seeds[:2], "seeds": scale.seeds[:2]}
    results = results_of(STUDIES[study](profile, **some), noisy)
    found = [v for v in judge_all(profile, {study: results}) if v.claim.study == study]
    left_out = {("kernel_size", "small"): ["kernels-saturate"]}
    left_out |= {("vanilla_kd", name): ["vanilla-longer-is-better"] for name in ("reference", "natural")}
    assert [v.claim.id for v in found if v.found is None] == left_out.get((study, profile), [])


@pytest.mark.parametrize("study", STUDIES)
def test_what_was_not_run_is_judged_so(study: str) -> None:
    assert {v.word for v in judge("small", {study: None})} <= {"not run"}


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
        (helped_by({"mini_slak"}, 0.01), "no difference that matters"),
        (noisy, "not decided"),
    ],
    ids=["better", "worse", "as good", "undecided"],
)
def test_the_verdict_follows_the_table(accuracy: Accuracy, word: str) -> None:
    found = verdict("logit_kd", ID, accuracy)
    assert found.word == word and found.found is not None
    assert (found.times >= 1) == (word == "not decided")
    low, high = found.found.interval()
    assert (low > 0) if word == "supported" else (high < 0) if word == "contradicted" else True


def test_a_difference_too_small_to_matter_is_named_so_though_it_is_not_0() -> None:
    found = verdict("logit_kd", ID, helped_by({"mini_slak"}, 0.1))
    assert found.word == "no difference that matters" and found.found.interval()[0] > 0


def test_teachers_that_were_trained_once_decide_nothing_between_them() -> None:
    clear = helped_by({"mini_slak", "mini_convnext"}, 2.0)
    between, alone = "logits-modern-convnets-over-transformers", "logits-help-at-all"
    assert (verdict("logit_kd", between, clear, "small").word, verdict("logit_kd", between, clear).word) == (
        "not decided",
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
    assert verdict("kernel_size", claim, larger(0.5)).word == "not decided"


@pytest.mark.parametrize(("lead", "word"), [(-3.0, "supported"), (0.0, "supported"), (2.0, "contradicted")])
def test_a_method_that_is_ahead_of_another_one_matches_it(lead: float, word: str) -> None:
    """VanillaKD's claim is that the elaborate method does not lead; a lead of vanilla KD supports it."""

    def led(recipe: Recipe) -> float:
        return 60 + lead * (recipe.objective == "dkd") + noisy(recipe) / 1000

    assert verdict("vanilla_kd", "vanilla-matches-dkd", led).word == word


def test_a_trained_teacher_counts_once_however_many_students_it_has() -> None:
    found = verdict("kernel_size", "kernels-are-more-accurate", noisy).found
    assert found is not None and (found.teacher_seeds, found.seeds) == (3, 1) and 2 <= found.freedom <= 4
    single = verdict("kernel_size", "kernels-are-more-accurate", noisy, "small")
    assert single.word == "not decided" and math.isnan(single.found.error) and math.isnan(single.p)


def test_p_values_are_corrected_by_family_in_which_claims_that_were_not_run_count() -> None:
    results = results_of(STUDIES["logit_kd"]("exploratory"), noisy)
    found = {v.claim.id: v for v in judge_all("exploratory", {"logit_kd": results})}
    raw = {name: min(v.claim.p_values(v.found).values()) if v.found else 1.0 for name, v in found.items()}
    for family, correct in (("primary", "holm"), ("secondary", "fdr_bh")):
        names = [name for name, v in found.items() if v.claim.family == family]
        expected = slow_correction([raw[name] for name in names], correct)
        assert [found[name].p for name in names if found[name].found] == pytest.approx(
            [p for name, p in zip(names, expected, strict=True) if found[name].found]
        )


def slow_correction(p_values: list[float], method: str) -> list[float]:
    """Holm: the largest bound over smaller p-values; Benjamini and Hochberg: the smallest over larger ones."""
    count, ranked = len(p_values), sorted(p_values)
    if method == "holm":
        return [max(min(1.0, (count - i) * q) for i, q in enumerate(ranked) if q <= p) for p in p_values]
    return [min(min(1.0, count / (i + 1) * q) for i, q in enumerate(ranked) if q >= p) for p in p_values]


def test_claims_between_teachers_that_were_trained_once_do_not_count_in_their_family() -> None:
    """With one instance of each teacher, a small family is left, and its claims are corrected for fewer others."""
    found = {v.claim.id: v for v in judged("logit_kd", "small", noisy)}
    raw = {name: min(v.claim.p_values(v.found).values()) for name, v in found.items() if not v.claim.between_teachers}
    secondary = [claim for claim in claims().values() if claim.family == "secondary"]
    others = [claim for claim in secondary if claim.id not in found]
    expected = slow_correction([*raw.values(), *[1.0] * len(others)], "fdr_bh")
    assert [found[name].p for name in raw] == pytest.approx(expected[: len(raw)])
    assert all(math.isnan(v.p) for name, v in found.items() if name not in raw)


# Registration -------------------------------------------------------------------------------------------------------


def registered_results(rules: str, seeds: list[int]) -> Results:
    study = STUDIES["logit_kd"]("reference", teacher_seeds=seeds, seeds=seeds, students=["mini_resnet"])
    results = results_of(study, noisy)
    for run in results.runs:
        vars(run)["provenance"] = {"rules": rules}
    return results


def test_only_runs_with_new_seeds_under_the_present_rules_are_confirmatory() -> None:
    claim, present = claims()[ID], registry.rules_hash()
    assert registry.is_confirmatory(claim, "reference", registered_results(present, [5, 6]))
    assert not registry.is_confirmatory(claim, "reference", registered_results(present, [4, 5]))
    assert not registry.is_confirmatory(claim, "reference", registered_results("0" * 12, [5, 6]))
    assert not registry.is_confirmatory(claim, "exploratory", registered_results(present, [5, 6]))


def test_runs_that_are_older_than_their_rule_are_not_confirmatory() -> None:
    results = registered_results(registry.rules_hash(), [5, 6])
    changed = replace(claims()[ID], matters=0.1)
    assert not registry.is_confirmatory(changed, "reference", results)


def test_the_present_rules_are_registered() -> None:
    """After a change of a rule or design: `python -m lkd.paper.registry`."""
    entry = registry.registered()[registry.rules_hash()]
    assert entry["claims"] == {name: claim.digest for name, claim in claims().items()}
    assert entry["designs"] == {name: registry.design_digest(name) for name in registry.REGISTERED_PROFILES}


def test_the_table_of_verdicts_says_what_a_reader_needs() -> None:
    results = results_of(STUDIES["logit_kd"]("exploratory"), helped_by({"mini_slak"}, 2.0))
    rows = table_of(judge("exploratory", {"logit_kd": results})).set_index("id")
    row = rows.loc[ID]
    assert (row.verdict, row["teacher instances"], row["student seeds"], row.expected) == (
        "supported",
        3,
        5,
        "> 0 (0.25)",
    )
    assert row["95 % low"] < row.difference < row["95 % high"] and row.difference == pytest.approx(2, abs=0.01)


def test_an_unknown_study_is_refused() -> None:
    with pytest.raises(KeyError, match="unknown study 'logit': did you mean 'logit_kd'"):
        judge("small", {"logit": None})


def test_a_claim_with_sides_that_were_not_run_is_not_run() -> None:
    study = STUDIES["logit_kd"]("exploratory")
    results = results_of(study, noisy)
    without = [run for run in results.runs if "mini_slak" not in (run.recipe.student, run.recipe.teacher_name)]
    found = {v.claim.id: v.word for v in judge("exploratory", {"logit_kd": replace(results, runs=without)})}
    assert found[ID] == "not run" and found["logits-convnext-over-transformers"] != "not run"
