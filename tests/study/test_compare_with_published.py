"""Comparison of a study's numbers with the published ones."""

import json
import shutil
from pathlib import Path

import pytest

from lkd.runs import published as records
from lkd.runs.manifest import write_manifest
from lkd.runs.provenance import numerics_hash
from lkd.runs.published import publish
from lkd.runs.store import Store
from lkd.study import compare_with_published, distillation

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
    before = compare_with_published(STUDY, results, "smoke")
    assert "are published" in before.caption and list(before.frame.columns)[-1] == "here"
    publish(STUDY.recipes, store, tmp_path / "published" / "smoke.zip")
    table = compare_with_published(STUDY, results, "smoke")
    assert "by the same code" in table.caption
    assert table.frame.difference.tolist() == [0.0] and table.frame.within.tolist() == [True]
    for recipe in STUDY.recipes:
        file = store.path(recipe) / "provenance.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "numerics": "of another day"}))
        write_manifest(file.parent, recipe.run_id)
    publish(STUDY.recipes, store, tmp_path / "published" / "smoke.zip")
    assert "by code that has changed since" in compare_with_published(STUDY, results, "smoke").caption


TRAINER = '''"""The loop."""

import torch
from lkd.models.slak import width
from lkd.util.text import shown


def step(x):
    """One step."""
    if x is None:
        raise ValueError("no images")
    return shown(width(x) + torch.ones(1))
'''


def test_the_hash_of_numerics_sees_code_that_is_imported_and_neither_words_nor_names_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hashed(**files: str) -> str:
        shutil.rmtree(tmp_path / "lkd", ignore_errors=True)
        empty = dict.fromkeys(("engine/evaluate", "erf/__init__", "robustness/__init__", "util/text"), "")
        given = {**empty, "engine/trainer": TRAINER, "models/slak": "WIDTH = 3", **files}
        for place, code in given.items():
            path = tmp_path / "lkd" / f"{place}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code)
        numerics_hash.cache_clear()
        return numerics_hash()

    monkeypatch.setattr("lkd.runs.provenance._PACKAGE", tmp_path / "lkd")
    first = hashed()
    reworded = TRAINER.replace("The loop", "Another").replace("One step", "A step").replace("no images", "none")
    assert hashed(**{"engine/trainer": reworded}) == first
    assert hashed(**{"util/text": "WIDTH = 5", "models/unused": "WIDTH = 7"}) == first
    moved = {"engine/trainer": TRAINER.replace("slak", "large"), "models/slak": "", "models/large": "WIDTH = 3"}
    assert hashed(**moved) == first
    assert hashed(**{"models/slak": 'WIDTH = 3\n"""Channels."""'}) == first
    assert hashed(**{"models/slak": "WIDTH = 5"}) != first
    assert hashed(**{"engine/trainer": TRAINER.replace("ones", "zeros")}) != first
    numerics_hash.cache_clear()
