"""A study's numbers beside the published ones."""

import json
from pathlib import Path

import pytest

from lkd import records
from lkd.manifest import write_manifest
from lkd.provenance import numerics_hash
from lkd.records import publish
from lkd.store import Store
from lkd.study import distillation, reproduced

STUDY = distillation(
    "smoke", teachers=["mini_convnext"], students=["mini_resnet"], objectives=["kd"], seeds=[0, 1], epochs=1
)


@pytest.mark.slow
def test_numbers_stand_beside_the_published_ones_and_say_by_what_code_these_were_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path / "published")
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    store = Store(tmp_path / "store")
    results = STUDY.run(store, workers=1)
    before = reproduced(STUDY, results, "smoke")
    assert "were not published" in before.caption and list(before.frame.columns)[-1] == "here"
    publish(STUDY.recipes, store, tmp_path / "published" / "smoke.zip")
    table = reproduced(STUDY, results, "smoke")
    assert "by the same code" in table.caption
    assert table.frame.difference.tolist() == [0.0] and table.frame.within.tolist() == [True]
    for recipe in STUDY.recipes:
        file = store.path(recipe) / "provenance.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "numerics": "of another day"}))
        write_manifest(file.parent, recipe.run_id)
    publish(STUDY.recipes, store, tmp_path / "published" / "smoke.zip")
    assert "by code that has changed since" in reproduced(STUDY, results, "smoke").caption


def test_the_hash_of_numerics_sees_code_and_not_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hashed(code: str) -> str:
        (tmp_path / "ops.py").write_text(code)
        numerics_hash.cache_clear()
        return numerics_hash()

    monkeypatch.setattr("lkd.provenance.__file__", str(tmp_path / "provenance.py"))
    first = hashed('"""Words."""\n\n\ndef f(x):\n    """Words."""\n    return x + 1\n')
    assert hashed('"""Others."""\n\ndef f(x):\n    # a comment\n    return x + 1\n') == first
    assert hashed("def f(x):\n    return x + 2\n") != first
    numerics_hash.cache_clear()
