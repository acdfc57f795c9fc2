"""Chapters from the first to the last cell, on the smoke profile."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from nbformat import NotebookNode
from training_here import copy_runs

from lkd.book.runner import NOTEBOOKS, run_chapter
from lkd.runs.store import Store
from lkd.study.chapters import studies_of

pytestmark = pytest.mark.slow

PLOTLY = "application/vnd.plotly.v1+json"
PARAMETERS = {"profile": "smoke", "teachers": ["mini_convnext", "mini_vit"], "students": ["mini_resnet"]}
RUNS = 2 + 2 + 2 * 2 * 2 + 3 + 3 * 2
"""Two teachers, the student alone with two seeds, and with each teacher, objective and seed; of the control three
teachers, and a student of each with two seeds."""


class Made(NamedTuple):
    home: Path
    copy: Path

    @property
    def runs(self) -> dict[str, int]:
        """When each run of the store was written."""
        return {path.parent.name: path.stat().st_mtime_ns for path in self.home.glob("runs/*/metrics.json")}


@pytest.fixture(scope="module")
def logits(tmp_path_factory: pytest.TempPathFactory, smoke_runs: Store) -> Made:
    """The executed chapter, which found all its runs but two and trained these."""
    home = tmp_path_factory.mktemp("chapters")
    given = {name: PARAMETERS[name] for name in ("teachers", "students")}
    first, control = studies_of("logit_kd", "smoke", **given)
    copy_runs(smoke_runs, home, [*first.recipes[:-2], *control.recipes])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LKD_HOME", str(home))
        return Made(home, run_chapter("logit_kd", PARAMETERS))


def outputs(notebook: NotebookNode, *kinds: str) -> list[NotebookNode]:
    """Outputs of these kinds; by default the visible ones."""
    made = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output for output in made if output.output_type in (kinds or ("execute_result", "display_data"))]


def rows_of_the_papers_table(notebook: NotebookNode) -> list[Tag]:
    """Rows with numbers, of all tables with columns "alone" and "direct gain"."""
    pages = [BeautifulSoup(output.data.get("text/html", ""), "html.parser") for output in outputs(notebook)]
    tables = [table for page in pages for table in page.select("table")]
    heads = [{cell.text.strip() for cell in table.select("th")} for table in tables]
    ours = [table for table, head in zip(tables, heads, strict=True) if {"alone", "direct gain"} <= head]
    return [row for table in ours for row in table.select("tbody tr")]


def test_the_chapter_of_logits_runs_through(logits: Made) -> None:
    assert logits.copy == logits.home / "chapters" / "logit_kd.ipynb"
    notebook = nbformat.read(logits.copy, 4)
    assert notebook.metadata["papermill"]["exception"] is None
    assert not outputs(notebook, "error")
    assert not any("%|" in output.text for output in outputs(notebook, "stream")), "a progress bar is in the copy"
    assert len(logits.runs) == RUNS


def test_its_table_has_a_row_for_every_teacher_student_and_objective(logits: Made) -> None:
    rows = rows_of_the_papers_table(nbformat.read(logits.copy, 4))
    told = sorted(" ".join(cell.text.strip() for cell in row.select("td")[:2]) for row in rows)
    assert told == ["mini_convnext kd", "mini_convnext nkd", "mini_vit kd", "mini_vit nkd"]
    assert all("±" in row.text for row in rows)


def test_its_figures_say_in_words_what_they_show(logits: Made) -> None:
    shown = [output.data[PLOTLY] for output in outputs(nbformat.read(logits.copy, 4)) if PLOTLY in output.data]
    cells, epochs, learners, stopped, logged = 2 * 2, 2, 1 + 2 * 2, 3, 3 * (5 + 4)
    rows = [len(figure["layout"]["meta"]["table"]["rows"]) for figure in shown]
    assert rows == [cells, cells, learners * epochs, cells, stopped, logged]
    *own, logs = [figure["layout"]["meta"]["alt"] for figure in shown]
    assert all("ResNet" in alt for alt in own) and logs.endswith("panels: SLaK.")
    assert all(figure["data"] for figure in shown)


def test_it_compares_its_two_teachers_with_the_authors_logs(logits: Made) -> None:
    texts = [output.data.get("text/markdown", "") for output in outputs(nbformat.read(logits.copy, 4))]
    (told,) = [text for text in texts if "in the logs" in text]
    first, second = told.splitlines()
    assert first.startswith("- ResNet-50: ConvNeXt, ViT in the logs, ") and "Kendall's tau is " in first
    assert second == "- ConvNeXt-T: no order to compare; teachers on both sides: ConvNeXt."


def test_papermill_alone_runs_it_with_one_teacher_and_one_seed_and_trains_nothing(
    logits: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LKD_HOME", str(logits.home))
    before, output = logits.runs, tmp_path / "out.ipynb"
    parameters = yaml.safe_dump({**PARAMETERS, "teachers": ["mini_vit"], "seeds": [0]})
    command = [sys.executable, "-m", "papermill", str(NOTEBOOKS["logit_kd"]), str(output), "-y", parameters]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(output, 4)
    assert len(rows_of_the_papers_table(notebook)) == 2
    assert logits.runs == before
