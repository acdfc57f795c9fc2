"""The command `lkd plan`: table, JSON, list of runs, and error messages."""

import ast
import json
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner, Result

from lkd.book.runner import NOTEBOOKS
from lkd.cli import app
from lkd.study.chapters import CHAPTERS

NOT_CHOOSING = {"profile", "published", "workers", "imagenet", "sets"}
"""Parameters of chapters that do not choose runs."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home."""
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def lkd(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_the_table_and_json_have_the_same_numbers(home: Path) -> None:
    words = ["plan", "longer_training", "--profile", "smoke", "--no-measure"]
    told, data = lkd(*words), json.loads(lkd(*words, "--json").output)
    assert told.exit_code == 0 and not list(home.glob("*"))
    assert f"{data['counts']['runs']} runs" in told.output and f"{data['steps']:,} steps" in told.output
    head, *rows = told.output[told.output.index("     role") :].splitlines()
    assert len(rows) == len(data["jobs"])
    column = -len(head.split()) + head.split().index("steps")
    assert [row["steps"] for row in data["jobs"]] == [int(row.split()[column + 2].replace(",", "")) for row in rows]


def test_parameters_choose_runs_and_each_is_named_on_request() -> None:
    words = ["-p", "profile=smoke", "-p", "seeds=[0]", "-p", "teachers=['mini_vit']", "-p", "workers=1", "--no-measure"]
    data = json.loads(lkd("plan", "longer_training", *words, "--list", "--json").output)
    assert data["counts"] == {
        "runs": 5, "teachers": 1, "alone": 2, "distilled": 2, "stored": 0, "left": 5, "tapes": 0
    }  # fmt: skip
    assert [run["model"] for run in data["runs"]] == ["mini_vit", *4 * ["mini_resnet"]]
    assert data["this_device"] == {"hours": None, "workers": 1, "timed_batches": None, "cpu_share": None}
    assert data["runs"][0]["run_id"] in lkd("plan", "longer_training", *words, "--list").output


@pytest.mark.parametrize("chapter", [name for name, each in CHAPTERS.items() if each.studies])
def test_studies_are_asked_with_the_parameters_that_the_notebook_gives_them(chapter: str) -> None:
    notebook = nbformat.read(NOTEBOOKS[chapter], 4)
    first, *others = (cell for cell in notebook.cells if cell.cell_type == "code")
    declared = {node.target.id for node in ast.walk(ast.parse(first.source)) if isinstance(node, ast.AnnAssign)}
    calls = [
        {keyword.arg for keyword in node.keywords if isinstance(keyword.value, ast.Name)}
        for cell in others
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and "seeds" in [keyword.arg for keyword in node.keywords]
    ]
    assert len(calls) == len(CHAPTERS[chapter].studies)
    assert calls[0] == declared - NOT_CHOOSING and all(call == {"teacher_seeds", "seeds"} for call in calls[1:])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["longer"], "unknown chapter 'longer': did you mean 'longer_training'"),
        (["longer_training", "--profile", "smok"], "unknown profile 'smok': did you mean 'smoke'"),
        (["longer_training", "-p", "seed=[0]"], "unknown parameter of chapter 'longer_training' 'seed'"),
        (["longer_training", "-p", "teachers=['mini_slack']"], "unknown student model 'mini_slack'"),
        (["longer_training", "-p", "seeds=0"], "seeds must be a list of whole numbers or None, got 0 (int)"),
        (["longer_training", "-p", "published=True"], "published is True"),
        (["longer_training", "-p", "workers=0"], "workers must be at least 1, got 0"),
        (["longer_training", "--gpu", "a1000"], "unknown GPU 'a1000': did you mean 'a100'"),
        (["longer_training", "--measure", "-3"], "measure must be above 0, got -3"),
        (["longer_training", "--utilisation", "30"], "utilisation must be above 0 and at most 1, got 30"),
        (["longer_training", "--gpus", "0"], "gpus must be at least 1, got 0"),
        (["your_own"], "chapter 'your_own' has no study"),
    ],
)
def test_wrong_words_are_answered_in_a_line(words: list[str], message: str, home: Path) -> None:
    told = lkd("plan", *words)
    assert told.exit_code == 2 and message in told.output
    assert len(told.output.splitlines()) == 1 and not list(home.glob("*"))


@pytest.mark.parametrize(
    "words", [["--measure", "3", "--no-measure"], ["--profile", "smoke", "-p", "profile=small"], ["-p", "seeds"]]
)
def test_words_that_contradict_each_other_are_refused(words: list[str], home: Path) -> None:
    told = lkd("plan", "longer_training", *words)
    assert told.exit_code == 2 and not list(home.glob("*"))
