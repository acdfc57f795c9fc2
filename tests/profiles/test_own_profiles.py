"""Profiles in a user's files: values over those of another, and their use in chapters, commands and pages."""

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from typer.testing import CliRunner

from lkd.book.front_page import best_verdicts, scale_html
from lkd.book.provenance_box import how_made
from lkd.book.runner import NOTEBOOKS, run_chapter
from lkd.cli import app
from lkd.paper.verdicts import ledger, table_of
from lkd.profiles import Profile
from lkd.runs.published import published
from lkd.runs.store import Store
from lkd.study import distillation
from lkd.study.chapters import STUDIES

Write = Callable[..., Path]
FEW = """
extends: smoke
description: Few.
seeds: [3]
teachers: {mini_vit: null, mini_cswin: null, mini_swin: null, mini_slak: {lr: 1e-3}}
students: {mini_convnext_nano: null}
chapters:
  logit_kd: {objectives: [kd]}
  matched: {teachers: null}
  feature_kd: {teachers: null}
  longer_training: {teachers: null}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a profile into the working directory."""
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def written(text: str = FEW, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return written


def lkd(*words: str) -> str:
    told = CliRunner().invoke(app, list(words))
    assert told.exit_code == 0, told.output
    return told.output


# Values -------------------------------------------------------------------------------------------------------------


def test_it_says_what_is_otherwise_and_has_the_rest_of_what_it_extends(write: Write) -> None:
    mine, smoke = Profile.load(str(write())), Profile.load("smoke")
    assert (mine.name, mine.source) == ("mine", str(write()))
    assert mine.seeds == [3] and mine.data == smoke.data and mine.teacher == smoke.teacher
    assert mine.chapters["logit_kd"] == {"objectives": ["kd"]} and mine.chapters["traits"] == smoke.chapters["traits"]


def test_what_is_null_leaves_out_what_the_other_has(write: Write) -> None:
    mine = Profile.load(str(write()))
    assert list(mine.teachers) == ["mini_slak", "mini_convnext"] and list(mine.students) == ["mini_resnet"]
    assert mine.chapters["matched"] == {
        "recipes": {name: {"stop_top1": 20.0} for name in ("mini_slak", "mini_convnext", "mini_swin")},
        "students": ["mini_resnet"],
        "objectives": ["nkd"],
    }


def test_a_number_without_a_point_is_a_number(write: Write) -> None:
    assert Profile.load(str(write())).teacher_recipe("mini_slak").lr == 0.001


def test_a_word_is_read_as_it_was_meant(write: Write) -> None:
    text = "extends: smoke\nstudent: {precision: no, flip: yes}\nteachers: {mini_slak: {flip: off, precision: no}}\n"
    mine = Profile.load(str(write(text)))
    student, teacher = mine.student_recipe("mini_resnet"), mine.teacher_recipe("mini_slak")
    assert (student.precision, student.flip, teacher.precision, teacher.flip) == ("no", True, "no", False)


def test_its_recipes_are_those_of_what_it_extends_but_for_what_it_says(write: Write) -> None:
    theirs = distillation("smoke", teachers=["mini_convnext"], students=["mini_resnet"], objectives=["kd"], seeds=[3])
    ours = distillation(str(write()), teachers=["mini_convnext"])
    assert {recipe.run_id for recipe in ours.recipes} == {recipe.run_id for recipe in theirs.recipes}


def test_a_file_extends_another_from_where_that_lies(write: Write) -> None:
    write(FEW, "scales/few.yaml")
    top = write("extends: scales/few.yaml\nseeds: [4]\n", "top.yaml")
    write("extends: few.yaml\nseeds: [5]\n", "scales/beside.yml")
    assert Profile.load(str(top)).seeds == [4] and Profile.load("scales/beside.yml").seeds == [5]
    assert list(Profile.load("scales/beside.yml").students) == ["mini_resnet"]


def test_a_change_of_the_file_counts_at_once(write: Write) -> None:
    assert Profile.load(str(write())).seeds == [3]
    assert Profile.load(str(write(FEW.replace("[3]", "[6]")))).seeds == [6]


# Uses ---------------------------------------------------------------------------------------------------------------


def test_every_study_takes_it(write: Write) -> None:
    path = str(write())
    assert all(STUDIES[name](path).recipes for name in STUDIES)


def test_verdicts_are_told_under_its_name(write: Write) -> None:
    path, store = str(write()), Store("store")
    verdicts = ledger(path, store)
    assert set(table_of(verdicts).profile) == {"mine"}
    told = scale_html(best_verdicts({"mine, here": verdicts}), {})
    assert "lkd run logit_kd -p profile=mine.yaml</code>" in told and "Few." in told


def test_commands_take_it(write: Write) -> None:
    write()
    lines = lkd("chapters", "--profile", "mine.yaml").splitlines()
    assert lines[lines.index("logit_kd") + 1].split()[:3] == ["mine", "9", "runs,"]
    assert all(line.startswith("not run") for line in lkd("claims", "--profile", "mine.yaml").splitlines())
    refused = CliRunner().invoke(app, ["publish", "mine.yaml"])
    assert refused.exit_code == 2 and "not one of lkd's profiles" in refused.output


def test_nothing_of_it_is_published(write: Write) -> None:
    with pytest.raises(FileNotFoundError, match="no runs of profile 'mine' are published"):
        published(str(write()))


@pytest.mark.slow
def test_a_chapter_finds_it_from_where_the_user_stands_and_runs_again_when_it_changes(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from lkd.profiles import Profile\nprint(Profile.load(profile).seeds)"
    parameters = new_code_cell('profile: str = "smoke"  # the scale', metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    tiny = new_notebook(cells=[parameters, new_code_cell(code)], metadata={"kernelspec": kernel})
    nbformat.write(tiny, tmp_path / "tiny.ipynb")
    monkeypatch.setitem(NOTEBOOKS, "tiny", tmp_path / "tiny.ipynb")
    write()
    for seeds in ("[3]", "[7]"):
        write(FEW.replace("[3]", seeds))
        copy = nbformat.read(run_chapter("tiny", {"profile": "mine.yaml"}), 4)
        printed = [output.text for output in copy.cells[-1].outputs if output.name == "stdout"]
        assert "".join(printed).strip() == seeds
    before = (tmp_path / "home" / "chapters" / "tiny.ipynb").stat().st_mtime_ns
    assert run_chapter("tiny", {"profile": "mine.yaml"}).stat().st_mtime_ns == before
    box = how_made("tiny", copy.metadata)
    assert "with profile ` mine `" in box and "lkd run tiny -p profile=mine.yaml" in box
