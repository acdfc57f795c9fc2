"""Chapter pages: the clean notebook gives the page its name, the executed copy gives it its contents."""

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
_FOLDER = "notebooks"
_OF_ONES_OWN = "your_own"
"""A chapter that shows no result but a way to one's own: it runs at any scale."""


def show_executed(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace a chapter's clean source by its executed copy (handles `source-read`)."""
    if Path(docname).parent != Path(_FOLDER) or Path(app.env.doc2path(docname)).suffix != ".ipynb":
        return
    copy = read_copy(Path(app.config.lkd_chapters), docname.removeprefix(f"{_FOLDER}/"))
    app.env.note_dependency(str(copy.path))
    if copy.fault:
        report(app.env, copy.fault, "chapter")
    source[0] = nbformat.writes(_page(copy, source[0]))


def announce_smoke(app: Sphinx, config: Config) -> None:
    """Put a banner on every page if any chapter was run with the smoke profile (handles `config-inited`)."""
    names = [path.stem for path in sorted((Path(app.srcdir) / _FOLDER).glob("*.ipynb"))]
    if any(read_copy(Path(config.lkd_chapters), name).profile == "smoke" for name in names if name != _OF_ONES_OWN):
        config.html_theme_options = {**config.html_theme_options, "announcement": SMOKE}


def _page(copy: Copy, source: str) -> NotebookNode:
    """The notebook to show: the copy and how it was made, or a note of what is wrong with it."""
    notebook = copy.notebook or read_notebook(source)
    if copy.fault:
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(fenced(plain(_without_folder(copy)), "{error}")))
    else:
        notebook.cells.append(nbformat.v4.new_markdown_cell(how_made(copy.name, notebook.metadata)))
        notebook.cells.append(nbformat.v4.new_markdown_cell(links_to(used_by(notebook))))
    return notebook


def _without_folder(copy: Copy) -> str:
    """The fault of a copy, with the copy's name alone: the whole path is in the warning of the build."""
    return (copy.fault or "").replace(str(copy.path), copy.path.name)
