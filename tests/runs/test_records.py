"""Published records are written, read back, and checked for alterations."""

import json
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest

import lkd
from lkd.planning import plan_chapter
from lkd.runs import published as records
from lkd.runs.manifest import write_manifest
from lkd.runs.published import publish, published, published_flops, unpacked
from lkd.runs.store import Store
from lkd.study import distillation
from lkd.study.chapters import CHAPTERS, complete
from lkd.study.compare_with_published import compare_means
from lkd.study.measure import measured

STUDY = distillation(
    "smoke", teachers=["mini_convnext"], students=["mini_resnet"], objectives=["kd"], seeds=[0], epochs=1
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    STUDY.run(store, workers=1)
    return store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "FOLDER", tmp_path / "published")
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    return tmp_path / "published"


def rewritten(path: Path, change) -> None:
    """The archive, with `change(name, content)` for each file."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, change(name, content))


def test_a_study_reads_the_same_from_its_records_without_any_weights(done: Store, folder: Path) -> None:
    run = STUDY.run(done).runs[0]
    measured(run, "cost", lambda run: {"x": __import__("numpy").array(3.0)})
    publish(STUDY.recipes, done, folder / "smoke.zip")
    found, ours = STUDY.published("smoke"), STUDY.run(done)
    pd.testing.assert_frame_equal(found.gains, ours.gains)
    pd.testing.assert_frame_equal(found.curves, ours.curves)
    assert records.profiles() == ["smoke"]
    assert not list(published("smoke").folder.rglob("*.safetensors"))
    with pytest.raises(FileNotFoundError, match="come from their records"):
        found.runs[0].student  # noqa: B018


@pytest.mark.parametrize("batch", [1, 2, 128])
def test_records_are_the_same_whatever_the_size_of_a_batch(
    batch: int, done: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_BATCH", batch)
    publish(STUDY.recipes, done, folder / "smoke.zip")
    found = published("smoke")
    for recipe in STUDY.recipes:
        ours, theirs = done.find(recipe), found.find(recipe)
        assert ours and theirs and theirs.metrics == ours.metrics and theirs.provenance == ours.provenance
        pd.testing.assert_frame_equal(theirs.predictions, ours.predictions)
        assert len(theirs.predictions) == 250


def test_the_operations_of_chapters_are_published_with_the_runs(done: Store, folder: Path) -> None:
    publish(STUDY.recipes, done, folder / "smoke.zip", {"logit_kd": 12 * 10**12})
    assert published_flops("smoke") == {"logit_kd": 12 * 10**12} and published_flops("small") == {}


@pytest.mark.parametrize("profile", records.profiles())
def test_published_operations_are_those_of_a_plan_for_each_complete_chapter(profile: str) -> None:
    flops, runs, nowhere = published_flops(profile), records.published(profile), Store("nowhere")
    whole = {
        name for name, chapter in CHAPTERS.items() if all(complete(each, profile, runs) for each in chapter.studies)
    }
    assert flops.keys() == whole - {"your_own"}
    assert flops["longer_training"] == plan_chapter("longer_training", profile, measure=None, store=nowhere).work.flops


def test_equal_runs_make_equal_bytes(done: Store, tmp_path: Path) -> None:
    for name in "ab":
        publish(reversed(STUDY.recipes) if name == "b" else STUDY.recipes, done, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_record_that_was_altered_is_refused(done: Store, folder: Path) -> None:
    path = folder / "smoke.zip"
    publish(STUDY.recipes, done, path)
    rewritten(
        path, lambda name, content: content.replace(b"top1", b"top2") if name.endswith("metrics.json") else content
    )
    with pytest.raises(ValueError, match="was altered: its content does not match its digest"):
        published("smoke")


def test_a_record_whose_id_no_longer_fits_is_refused(done: Store, folder: Path) -> None:
    other, store = STUDY.recipes[0], Store(folder.parent / "store")
    shutil.copytree(done.folder / "runs", store.folder / "runs")
    recipe = json.loads((store.path(other) / "recipe.json").read_text())
    (store.path(other) / "recipe.json").write_text(json.dumps({**recipe, "lr": 1.0}))
    write_manifest(store.path(other), other.run_id)
    publish(STUDY.recipes, store, folder / "smoke.zip")
    with pytest.raises(ValueError, match=f"record {other.run_id} .* was altered: its recipe is that of run"):
        unpacked(folder / "smoke.zip")


def test_missing_records_are_named(done: Store, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no runs of profile 'smoke' are published .*: none"):
        STUDY.published("smoke")
    publish(STUDY.recipes[:1], done, folder / "smoke.zip")
    with pytest.raises(FileNotFoundError, match="2 of these 3 runs are not published for profile 'smoke'"):
        STUDY.published("smoke")
    with pytest.raises(FileNotFoundError, match=r"run .* is missing .*: run it first"):
        publish([lkd.Recipe(data="digits", student="mini_vit", seed=77)], done, folder / "x.zip")
    assert not (folder / "x.zip").exists()


def test_ours_beside_the_published_and_whether_the_seeds_spread_explains_the_difference() -> None:
    cells = ["a"] * 3 + ["b"] * 3 + ["c"]
    theirs = pd.DataFrame({"cell": cells, "gain": [1.0, 2.0, 3.0, 1.0, 1.1, 0.9, 5.0]})
    ours = theirs.assign(gain=theirs.gain + 0.5)
    told = compare_means(
        pd.concat([ours, pd.DataFrame({"cell": ["d"], "gain": [0.0]})]), theirs, ["cell"], "gain"
    ).set_index("cell")
    assert told.difference.tolist()[:3] == pytest.approx([0.5] * 3)
    assert told.within.tolist() == [True, False, None, None]
