"""`lkd chapters` and `lkd claims`, for programs."""

import json
from pathlib import Path

import pytest
from calling import lkd, save, told

from lkd.book.runner import NOTEBOOKS
from lkd.paper.claims import claims
from lkd.runs import published as records
from lkd.runs.store import Store
from lkd.study import distillation, kd_variants, teacher_sizes


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKD_HOME", str(tmp_path))
    monkeypatch.setattr(records, "FOLDER", tmp_path / "published")


def test_what_chapters_cost_is_told_to_programs() -> None:
    found = {row["chapter"]: row for row in told("chapters", "--profile", "smoke")}
    assert found.keys() == NOTEBOOKS.keys()
    recipes = {recipe for study in (kd_variants, teacher_sizes) for recipe in study("smoke").recipes}
    images = sum(recipe.epochs * (recipe.train_images or 1297) for recipe in recipes)
    assert found["vanilla_kd"] == {
        "chapter": "vanilla_kd", "profile": "smoke", "runs": len(recipes), "to_do": len(recipes), "images": images,
        "minutes": None,
    }  # fmt: skip


def test_verdicts_are_told_to_programs() -> None:
    found = told("claims", "--profile", "smoke")
    assert sorted(row["claim"] for row in found) == sorted(claims())
    assert all(row["verdict"] == "not run" and row["mean"] is None for row in found)
    assert not (Store().folder / "runs").exists()


def test_a_damaged_run_is_to_do_and_is_named_once() -> None:
    recipe = teacher_sizes("smoke").recipes[0]
    save(Store(), recipe)
    (Store().path(recipe) / "metrics.json").write_text("")
    result = lkd("chapters", "--profile", "smoke", "--json")
    (fault,) = result.stderr.splitlines()
    assert result.exit_code == 1 and fault.startswith(f"lkd: {Store().path(recipe)}/metrics.json is damaged")
    assert all(row["to_do"] == row["runs"] for row in json.loads(result.stdout))


def refuse(*_: object) -> None:
    raise AssertionError("claims were judged again")


def test_verdicts_are_judged_again_only_when_a_run_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = told("claims", "--profile", "smoke")
    monkeypatch.setattr("lkd.paper.verdicts.judge_all", refuse)
    assert told("claims", "--profile", "smoke") == first
    save(Store(), distillation("smoke").recipes[0])
    assert "judged again" in str(lkd("claims", "--profile", "smoke").exception)


def test_a_damaged_run_leaves_its_claims_open_and_is_named_once() -> None:
    recipe = distillation("smoke").recipes[0]
    save(Store(), recipe)
    (Store().path(recipe) / "metrics.json").write_text("")
    for _ in range(2):
        result = lkd("claims", "--profile", "smoke", "--json")
        assert result.exit_code == 1 and {row["verdict"] for row in json.loads(result.stdout)} == {"not run"}
        (fault,) = result.stderr.splitlines()
        assert fault.startswith(f"lkd: {Store().path(recipe)}/metrics.json is damaged")
