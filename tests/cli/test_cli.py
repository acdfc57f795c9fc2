"""The `lkd` command: lists, verdicts, publication, and messages on wrong arguments."""

from pathlib import Path

import pytest
from training_here import copy_runs
from typer.testing import CliRunner, Result

from lkd import run
from lkd.book.runner import NOTEBOOKS
from lkd.cli import app
from lkd.paper.claims import claims
from lkd.runs import published as records
from lkd.runs.store import Store
from lkd.study import distillation
from lkd.study.chapters import STUDIES


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and no published records."""
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(records, "FOLDER", tmp_path / "published")
    return tmp_path / "home"


def lkd(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_all_chapters_are_listed_with_what_each_costs() -> None:
    told = lkd("chapters", "--profile", "smoke")
    lines = told.output.splitlines()
    assert told.exit_code == 0
    assert [line for line in lines if not line.startswith(" ")] == sorted(NOTEBOOKS)

    assert lines[lines.index("kernel_size") + 1].split()[:3] == ["smoke", "14", "runs,"]


def test_claims_are_judged_by_this_machines_runs() -> None:
    told = lkd("claims", "--profile", "smoke")
    assert told.exit_code == 0 and len(told.output.splitlines()) == len(claims())
    assert all(line.startswith("not run") for line in told.output.splitlines())
    assert lkd("claims", "logits-help-at-all").output.split()[:3] == ["not", "run", "logits-help-at-all"]


@pytest.mark.slow
def test_what_is_done_is_published_and_the_rest_named(
    home: Path, smoke_runs: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"teachers": ["mini_convnext"], "students": ["mini_resnet"], "objectives": ["kd"], "seeds": [0]}
    monkeypatch.setitem(STUDIES, "logit_kd", lambda profile: distillation(profile, **few))
    copy_runs(smoke_runs, home, STUDIES["logit_kd"]("smoke").recipes)
    told = lkd("publish", "smoke")
    assert (
        told.exit_code == 0
        and "smoke.zip: logit_kd (" in told.output
        and "not run: erf, feature_kd, kernel_size" in told.output
    )
    assert "previous file: 0" in told.output
    assert "smoke.zip shows students: 'mini_convnext', 'mini_resnet'" in told.stderr
    assert lkd("claims", "--published", "--profile", "smoke").exit_code == 0
    monkeypatch.setitem(STUDIES, "logit_kd", lambda profile: distillation(profile, **{**few, "objectives": ["nkd"]}))
    copy_runs(smoke_runs, home, STUDIES["logit_kd"]("smoke").recipes)
    assert "previous file: 1" in lkd("publish", "smoke").output


@pytest.mark.slow
def test_a_published_run_is_repeated_by_its_id(home: Path) -> None:
    study = distillation("smoke", teachers=["mini_convnext"], students=["mini_resnet"], objectives=["kd"], seeds=[0])
    elsewhere, alone = Store(home.parent / "elsewhere"), next(recipe for recipe in study.recipes if not recipe.teacher)
    there = run(alone, store=elsewhere)
    records.publish([alone], elsewhere, records.FOLDER / "smoke.zip")
    assert Store().find(alone) is None
    assert lkd("run-recipe", alone.run_id).exit_code == 0
    here = Store().find(alone)
    assert here is not None and here.metrics == there.metrics


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chapters", "--profile", "smal"], "unknown profile 'smal': did you mean 'small'"),
        (["claims", "--profile", "large"], "unknown profile 'large'"),
        (["claims", "logits-help"], "unknown claim 'logits-help': did you mean 'logits-help-at-all'"),
        (["claims", "--published"], "no runs of profile 'small' are published (published profiles: none)"),
        (["publish", "smal"], "unknown profile 'smal'"),
        (["run-recipe", "0123456789abcdef"], "'0123456789abcdef' is neither a file nor the id of a run"),
        (["show", "logits"], "unknown chapter 'logits': did you mean 'logit_kd'"),
        (["run", "erf", "-p", "teacher=1"], "unknown parameter of chapter 'erf' 'teacher': did you mean 'teachers'"),
    ],
)
def test_wrong_words_are_answered_in_a_line(words: list[str], message: str, home: Path) -> None:
    told = lkd(*words)
    assert told.exit_code == 2 and message in told.output
    assert len(told.output.splitlines()) == 1 and not list(home.glob("chapters/*"))
