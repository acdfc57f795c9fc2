"""`lkd run-recipe` takes a recipe and nothing else: no file that it names, or in a store, is executed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from traps import Trap
from typer.testing import CliRunner

from lkd import Recipe
from lkd.cli import app

RECIPE = Recipe(data="digits", student="memory:0123456789abcdef")
FIELDS = RECIPE.to_dict()


@pytest.fixture
def launches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a store, which is this machine's too, as earlier versions wrote it for this recipe, with a trap."""
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "launches"
    folder.mkdir(parents=True)
    torch.save({RECIPE.student: Trap(tmp_path / "sprung")}, folder / f"{RECIPE.run_id}.objects.pt")
    return folder


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"task": 1, "recipe": FIELDS, "store": "HOME", "resume": True, "options": {}}, "is not a recipe: it must be"),
        ({"recipe": FIELDS}, "is not a recipe: it must be an object"),
        (FIELDS | {"task": 1, "store": "HOME"}, "unknown field of a recipe 'task'"),
        (FIELDS | {"store": "HOME"}, "unknown field of a recipe 'store'"),
        (FIELDS | {"options": {"tape": True}}, "unknown field of a recipe 'options'"),
        (FIELDS | {"objects": f"HOME/launches/{RECIPE.run_id}.objects.pt"}, "unknown field of a recipe 'objects'"),
        (FIELDS, "memory:0123456789abcdef"),
    ],
    ids=["task", "nested", "task-in-recipe", "store", "options", "objects", "recipe"],
)
def test_no_pickle_is_loaded_for_a_file_of_others(
    content: Mapping[str, Any], message: str, launches: Path, tmp_path: Path
) -> None:
    file = launches / f"{RECIPE.run_id}.task.json"
    file.write_text(json.dumps(content).replace("HOME", str(tmp_path / "home")))
    told = CliRunner().invoke(app, ["run-recipe", str(file)])
    assert told.exit_code == 2 and message in told.output and len(told.output.splitlines()) == 1
    assert not (tmp_path / "sprung").exists()
