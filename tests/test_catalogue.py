"""What a store holds, told from its files alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from lkd import Recipe
from lkd.catalogue import changed, differences, entries, full_id
from lkd.recipe import _set
from lkd.store import Store

TEACHER = Recipe(data="digits", student="mini_slak", sparsity=0.4, epochs=3)
RECIPES = [
    TEACHER,
    Recipe(data="digits", student="mini_resnet", teacher=TEACHER, objective="kd", objective_args={"alpha": 0.5}),
    Recipe(data="folder:x", student="resnet50", teacher="convnext_tiny.fb_in1k", objective="nkd", image_size=64),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_a_recipe_changes_is_what_its_id_is_made_of(recipe: Recipe) -> None:
    expected = _set(recipe)
    if isinstance(teacher := expected.get("teacher"), dict):
        del expected["teacher"]
        expected |= {f"teacher.{name}": value for name, value in teacher.items()}
    assert changed(recipe.to_dict()) == expected


def test_a_field_that_older_recipes_lack_has_its_default() -> None:
    new = RECIPES[1].to_dict()
    old = {name: value for name, value in new.items() if name != "ema"}
    assert differences([old, new]) == {}
    assert differences([old, {**new, "ema": 0.9}]) == {"ema": [None, 0.9]}


def test_every_field_can_be_told_apart() -> None:
    one = RECIPES[1]
    for name, value in {"lr": 0.1, "flip": True, "student_args": {"act_layer": "gelu"}, "seed": 9}.items():
        other = replace(one, **{name: value})
        (found,) = differences([one.to_dict(), other.to_dict()])
        assert found.partition(".")[0] == name
    other = replace(one, teacher=replace(TEACHER, prune_rate=0.3))
    assert differences([one.to_dict(), other.to_dict()]) == {"teacher.prune_rate": [0.5, 0.3]}


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    for name in ("abc1", "abd2", ".abc1.half"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert full_id(tmp_path, "abc") == full_id(tmp_path, "abc1") == "abc1"
    with pytest.raises(KeyError, match=r"2 runs have an id that begins with 'ab' \('abc1', 'abd2'\)"):
        full_id(tmp_path, "ab")
    with pytest.raises(KeyError, match="no run has an id that begins with 'b'"):
        full_id(tmp_path, "b")


def test_a_damaged_run_is_named(store: Store) -> None:
    (store.folder / "runs" / "abc1").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"/abc1/recipe.json is missing: remove .*/abc1, and run it again"):
        entries(store.folder)
