"""`lkd chapters` and `lkd claims`, for programs."""

from pathlib import Path

import pytest
from calling import told

from lkd import records
from lkd.book.chapters import CHAPTERS
from lkd.paper.claims import claims
from lkd.store import Store
from lkd.study import growing, variants_of_kd


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKD_HOME", str(tmp_path))
    monkeypatch.setattr(records, "FOLDER", tmp_path / "published")


def test_what_chapters_cost_is_told_to_programs() -> None:
    found = {row["chapter"]: row for row in told("chapters", "--profile", "smoke")}
    assert found.keys() == CHAPTERS.keys()
    recipes = {recipe for study in (variants_of_kd, growing) for recipe in study("smoke").recipes}
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
