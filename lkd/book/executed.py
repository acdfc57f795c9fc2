"""Executed copies of the chapters: where they are and whether they can be shown."""

from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

_RECORD = ("profile", "parameters", "command", "provenance")


@dataclass(frozen=True)
class Copy:
    """The executed copy of a chapter, and what forbids to show it as a result, if anything does."""

    name: str
    path: Path
    notebook: NotebookNode | None
    fault: str | None

    @property
    def profile(self) -> str | None:
        """The profile it was run with; None when there is no record of it."""
        return self.notebook.metadata.get("lkd", {}).get("profile") if self.notebook else None

    @property
    def from_records(self) -> bool:
        """Whether it shows the published records, and no runs of this machine."""
        rows = self.notebook.metadata.get("lkd", {}).get("parameters", []) if self.notebook else []
        return any((row["name"], row["used"]) == ("published", "True") for row in rows)


def read_copy(folder: Path, name: str) -> Copy:
    """The executed copy of the chapter `name` among those in `folder`."""
    path = folder / f"{name}.ipynb"
    if not path.is_file():
        return Copy(name, path, None, f"Chapter {name} was not run: run `lkd run {name}`.")
    try:
        notebook = read_notebook(path.read_text("utf8"))
    except ValueError as error:
        fault = f"The executed copy {path} of chapter {name} cannot be read ({error}): run `lkd run {name}`."
        return Copy(name, path, None, fault)
    return Copy(name, path, notebook, _fault(notebook, name, path))


def read_notebook(text: str) -> NotebookNode:
    """The notebook that `text` holds, in the newest minor format."""
    return nbformat.v4.upgrade(nbformat.reads(text, as_version=4))


def _fault(notebook: NotebookNode, name: str, path: Path) -> str | None:
    """Why this executed copy is no result, or None when it is one."""
    if any(_failed(cell) for cell in notebook.cells):
        return f"Chapter {name} stopped with an error when it was run: mend it, then run `lkd run {name}`."
    record = notebook.metadata.get("lkd", {})
    missing = [field for field in _RECORD if field not in record]
    if missing or "papermill" not in notebook.metadata:
        return f"The executed copy {path} of chapter {name} has no record of its run: run `lkd run {name}`."
    return None


def _failed(cell: NotebookNode) -> bool:
    """Whether papermill or the kernel marked this cell as failed."""
    marked = "papermill-error-cell-tag" in cell.metadata.get("tags", [])
    return marked or any(output.output_type == "error" for output in cell.get("outputs", []))
