"""The `lkd` command, called within this process, and finished runs to call it on."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import timm
from typer.testing import CliRunner, Result

from lkd import Recipe
from lkd.cli import app
from lkd.runs.store import Store

SHAPE = {"in_chans": 1, "num_classes": 10}


def lkd(*words: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, words)), prog_name="lkd")


def told(*words: str | Path) -> Any:
    """The JSON that a command answers with."""
    result = lkd(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def save(store: Store, recipe: Recipe, top1: float = 50.0, started: str = "2026-01-01T00:00:00+00:00") -> str:
    """Put a run that was never trained into a store; gives its id."""
    student = timm.create_model(recipe.student, **SHAPE, **recipe.student_args)
    metrics = {"val_top1": top1 - 1, "test_top1": top1, "test_loss": 1.5}
    history = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0], "val_top1": [None, 49.0]})
    store.save(recipe, student, SHAPE, metrics, history, {"started": started, "seconds": 1.5})
    return recipe.run_id


def content(*folders: Path) -> dict[str, bytes | None]:
    """All files in folders, with their content."""
    paths = [path for folder in folders for path in folder.rglob("*")]
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}
