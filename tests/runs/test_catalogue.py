"""The finished runs of a store, read from its files alone."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from short_runs import RECIPE, saved

from lkd import Recipe
from lkd.recipe import _non_default
from lkd.runs.catalogue import Catalogue, changed, entries, full_id, recipe_differences
from lkd.runs.store import Store

TEACHER = Recipe(data="digits", student="mini_slak", sparsity=0.4, epochs=3)
RECIPES = [
    TEACHER,
    Recipe(data="digits", student="mini_resnet", teacher=TEACHER, objective="kd", objective_args={"alpha": 0.5}),
    Recipe(data="folder:x", student="resnet50", teacher="convnext_tiny.fb_in1k", objective="nkd", image_size=64),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_changed_fields_of_a_recipe_determine_its_id(recipe: Recipe) -> None:
    expected = _non_default(recipe)
    if isinstance(teacher := expected.get("teacher"), dict):
        del expected["teacher"]
        expected |= {f"teacher.{name}": value for name, value in teacher.items()}
    assert changed(recipe.to_dict()) == expected


def test_a_field_that_older_recipes_lack_has_its_default() -> None:
    new = RECIPES[1].to_dict()
    old = {name: value for name, value in new.items() if name != "ema"}
    assert recipe_differences([old, new]) == {}
    assert recipe_differences([old, {**new, "ema": 0.9}]) == {"ema": [None, 0.9]}


def test_every_field_can_be_told_apart() -> None:
    one = RECIPES[1]
    for name, value in {"lr": 0.1, "flip": True, "student_args": {"act_layer": "gelu"}, "seed": 9}.items():
        other = replace(one, **{name: value})
        (found,) = recipe_differences([one.to_dict(), other.to_dict()])
        assert found.partition(".")[0] == name
    other = replace(one, teacher=replace(TEACHER, prune_rate=0.3))
    assert recipe_differences([one.to_dict(), other.to_dict()]) == {"teacher.prune_rate": [0.5, 0.3]}


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    first, second = "abc1" + "0" * 12, "abd2" + "0" * 12
    for name in (first, second, f".{first}.half", "abc-notes"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert full_id(tmp_path, "abc") == full_id(tmp_path, first) == first
    with pytest.raises(KeyError, match=f"2 runs have an id that begins with 'ab' \\('{first}', '{second}'\\)"):
        full_id(tmp_path, "ab")
    with pytest.raises(KeyError, match="no run has an id that begins with 'b'"):
        full_id(tmp_path, "b")


ID = "abc1" * 4


def listed(store: Store, name: str, content: str) -> Catalogue:
    """The catalogue of a store with a whole run, after one file of another run was overwritten."""
    saved(store)
    shutil.copytree(store.path(RECIPE), store.folder / "runs" / ID)
    (store.folder / "runs" / ID / name).write_text(content)
    return entries(store.folder)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("recipe.json", "", "is damaged or no JSON object"),
        ("recipe.json", "[]", "it contains a list"),
        ("recipe.json", '{"data": "digits"}', "'student' is missing"),
        ("recipe.json", '{"data": 1, "student": "", "teacher": null, "objective": "", "seed": 0}', "data is 1"),
        ("recipe.json", '{"data": "", "student": "", "teacher": {}, "objective": "", "seed": 0}', "teacher is None"),
        ("recipe.json", '{"data": "", "student": "", "teacher": null, "objective": "", "seed": "0"}', "seed is '0'"),
        ("metrics.json", '{"test_top1": NaN}', "test_top1 must be at least"),
        ("metrics.json", '{"test_top1": "9"}', "test_top1 must be a number"),
        ("metrics.json", '{"test_top1": 1e999}', "test_top1 must be at least"),
        ("provenance.json", '{"started": 3}', "started is 3, not a string"),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_listed(store: Store, name: str, content: str, reason: str) -> None:
    runs, (fault,) = listed(store, name, content)
    assert [run.run_id for run in runs] == [RECIPE.run_id]
    assert reason in fault and fault.startswith(str(store.folder / "runs" / ID / name))
    assert fault.endswith(f": remove {store.folder / 'runs' / ID}, and run it again")


def test_foreign_files_are_named_and_hidden_files_ignored(store: Store) -> None:
    folder = saved(store).parent
    for name in ("notes.txt", ".DS_Store", "ffff" * 4):
        (folder / name).write_text("")
    (folder / "old").mkdir()
    runs, faults = entries(store.folder)
    assert [run.run_id for run in runs] == [RECIPE.run_id]
    assert faults == [
        f"{folder / name} is not a run: move it to another folder" for name in ("ffff" * 4, "notes.txt", "old")
    ]


def test_a_run_that_is_removed_while_it_is_listed_is_no_fault(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path) -> None:
        shutil.rmtree(path)
        raise FileNotFoundError(path)

    saved(store)
    monkeypatch.setattr("lkd.runs.catalogue.entry", gone)
    assert entries(store.folder) == ([], [])


def test_a_folder_of_runs_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match="runs cannot be read"):
        entries(tmp_path)


def test_a_missing_store_is_empty(tmp_path: Path) -> None:
    assert entries(tmp_path / "none") == ([], [])
