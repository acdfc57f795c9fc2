"""Chapter pages: named by the clean notebook, with the contents of the executed copy."""

from pathlib import Path

import nbformat
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.config import Config

from lkd.book.api_links import links_to, used_by
from lkd.book.executed import Copy, read_copy, read_notebook
from lkd.book.page_warnings import report
from lkd.book.provenance_box import how_made
from lkd.util.markdown import fenced, plain

SMOKE = "Smoke build: seconds of training on tiny data. It shows that the pages work; its numbers mean nothing."
_FOLDER, _EXAMPLES = Path("notebooks"), Path("notebooks/examples")
_LEARNED, _ANSWERS = "## What we learned", 3
"""Heading of a chapter's verdicts, and number of verdicts in the box at its top."""
_TEMPLATE = "your_own"
"""A chapter for readers' own data, which shows no result of the book at any scale."""


def show_executed(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the clean source of a chapter or example by its executed copy (handles `source-read`).

    An example that was not executed is shown without outputs.
    """
    page = Path(docname)
    if page.parent not in (_FOLDER, _EXAMPLES) or Path(app.env.doc2path(docname)).suffix != ".ipynb":
        return
    copy = read_copy(Path(app.config.lkd_chapters), page.name)
    app.env.note_dependency(str(copy.path))
    if page.parent == _EXAMPLES and copy.notebook is None:
        return
    if copy.fault:
        report(app.env, copy.fault, "chapter")
    source[0] = nbformat.writes(_page(copy, source[0], is_chapter=page.parent == _FOLDER))


def announce_smoke(app: Sphinx, config: Config) -> None:
    """Put a banner on every page if any chapter was run with the smoke profile (handles `config-inited`)."""
    names = [path.stem for path in sorted((Path(app.srcdir) / _FOLDER).glob("*.ipynb"))]
    if any(read_copy(Path(config.lkd_chapters), name).profile == "smoke" for name in names if name != _TEMPLATE):
        config.html_theme_options = {**config.html_theme_options, "announcement": SMOKE}


def _page(copy: Copy, source: str, is_chapter: bool) -> NotebookNode:
    """The notebook to show: the copy, for a chapter with its provenance, or the fault as an error box."""
    notebook = copy.notebook or read_notebook(source)
    if copy.fault:
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(fenced(plain(_without_folder(copy)), "{error}")))
        return notebook
    if is_chapter:
        show_answer(notebook)
        notebook.cells.append(nbformat.v4.new_markdown_cell(how_made(copy.name, notebook.metadata)))
    notebook.cells.append(nbformat.v4.new_markdown_cell(links_to(used_by(notebook))))
    return notebook


def show_answer(notebook: NotebookNode) -> None:
    """Repeat the first verdicts of the section "What we learned" in a box below the first cell, which has the question.

    Args:
        notebook: an executed chapter, changed in place; one without this section, or not executed, stays as it is.
    """
    findings = [line for line in _learned(notebook).splitlines() if line.startswith("- ")]
    if not findings:
        return
    text = "\n".join([*findings[:_ANSWERS], "", '<a href="#what-we-learned">All that this page shows</a>'])
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(fenced(text, "{admonition} Answer")))


def _learned(notebook: NotebookNode) -> str:
    """The Markdown below the heading "What we learned"; "" without it."""
    cells = notebook.cells
    places = [number for number, cell in enumerate(cells) if cell.source.strip() == _LEARNED]
    for output in cells[places[0] + 1].get("outputs", ()) if places and len(cells) > places[0] + 1 else ():
        if text := output.get("data", {}).get("text/markdown"):
            return str(text)
    return ""


def _without_folder(copy: Copy) -> str:
    """The fault of a copy with the name of its file only: the build's warning has the full path."""
    return (copy.fault or "").replace(str(copy.path), copy.path.name)
