"""Executed copies of the chapters, and checks of whether they can be shown."""

from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

_RECORD = ("profile", "parameters", "command", "provenance")


@dataclass(frozen=True)
class Copy:
    """The executed copy of a chapter, and the fault that makes it unfit to show, if any."""

    name: str
    path: Path
    notebook: NotebookNode | None
    fault: str | None

    @property
    def profile(self) -> str | None:
        """The profile of the execution; None without a record."""
        return self.notebook.metadata.get("lkd", {}).get("profile") if self.notebook else None

    @property
    def from_records(self) -> bool:
        """Whether it shows published records instead of runs of this machine."""
        rows = self.notebook.metadata.get("lkd", {}).get("parameters", []) if self.notebook else []
        return any((row["name"], row["used"]) == ("published", "True") for row in rows)


def read_copy(folder: Path, name: str) -> Copy:
    """Read the executed copy of the chapter `name` in `folder`."""
    path = folder / f"{name}.ipynb"
    if not path.is_file():
        return Copy(name, path, None, f"Chapter {name} has not been run: run `lkd run {name}`.")
    try:
        notebook = read_notebook(path.read_text("utf8"))
    except ValueError as error:
        fault = f"The executed copy {path} of chapter {name} cannot be read ({error}): run `lkd run {name}`."
        return Copy(name, path, None, fault)
    return Copy(name, path, notebook, _fault(notebook, name, path))


def read_notebook(text: str) -> NotebookNode:
    """Parse a notebook, in the newest minor format."""
    return nbformat.v4.upgrade(nbformat.reads(text, as_version=4))


def _fault(notebook: NotebookNode, name: str, path: Path) -> str | None:
    """The fault of an executed copy; None if it can be shown."""
    if any(_failed(cell) for cell in notebook.cells):
        return f"Chapter {name} stopped with an error: fix it, then run `lkd run {name}`."
    record = notebook.metadata.get("lkd", {})
    missing = [field for field in _RECORD if field not in record]
    if missing or "papermill" not in notebook.metadata:
        return f"The executed copy {path} of chapter {name} has no record of its run: run `lkd run {name}`."
    return None


def _failed(cell: NotebookNode) -> bool:
    """Whether papermill or the kernel marked a cell as failed."""
    marked = "papermill-error-cell-tag" in cell.metadata.get("tags", [])
    return marked or any(output.output_type == "error" for output in cell.get("outputs", []))
