"""The box with a chapter's answer: taken from its verdicts, below its question, and absent without them."""

import nbformat
import pytest
from nbformat import NotebookNode

from lkd.book.pages import show_answer

TITLE = "# Kernels\n\nHow large is large?"


def chapter(learned: str | None, kind: str = "text/markdown") -> NotebookNode:
    outputs = [] if learned is None else [nbformat.v4.new_output("display_data", {kind: learned})]
    cells = [
        nbformat.v4.new_markdown_cell(TITLE),
        nbformat.v4.new_code_cell("results"),
        nbformat.v4.new_markdown_cell("## What we learned"),
        nbformat.v4.new_code_cell("Markdown(learned(verdicts))", outputs=outputs),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def test_the_first_verdicts_stand_below_the_question() -> None:
    notebook = chapter("At this scale:\n\n- **Supported:** A.\n- **Not decided:** B.\n- C.\n- D.")
    show_answer(notebook)
    first, box, *others = notebook.cells
    assert first.source == TITLE
    assert box.source.startswith("```{admonition} Answer\n- **Supported:** A.\n- **Not decided:** B.\n- C.\n\n<a href")
    assert "- D." not in box.source and len(others) == 3
    nbformat.validate(notebook)


@pytest.mark.parametrize(
    "notebook",
    [
        chapter(None),
        chapter("No claim of this page was run."),
        chapter("- A.", kind="text/plain"),
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(TITLE)]),
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("## What we learned")]),
    ],
    ids=["not executed", "nothing run", "no Markdown", "no section", "an end"],
)
def test_without_verdicts_a_page_stays_as_it_is(notebook: NotebookNode) -> None:
    before = [cell.source for cell in notebook.cells]
    show_answer(notebook)
    assert [cell.source for cell in notebook.cells] == before


def test_verdicts_cannot_leave_the_box() -> None:
    notebook = chapter("- ```` {raw} html")
    show_answer(notebook)
    assert notebook.cells[1].source.startswith("`````{admonition} Answer\n") and notebook.cells[1].source.endswith(
        "\n`````"
    )
