"""The API pages and the chapters lead to each other: who uses which function."""

import ast
from functools import cache
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from sphinx.application import Sphinx

from lkd.book.executed import read_notebook

_PACKAGE = "lkd"


def used_by(notebook: NotebookNode) -> list[str]:
    """The functions and classes of this package that a notebook's code names, in order, by their full names.

    Example:
        >>> from nbformat.v4 import new_code_cell, new_notebook
        >>> code = "from lkd import figures\\nfrom lkd.study import longer\\nfigures.lines(schedule_lengths().run())"
        >>> used_by(new_notebook(cells=[new_code_cell(code)]))
        ['lkd.study.longer', 'lkd.figures.lines']
    """
    nodes = [node for cell in notebook.cells if cell.cell_type == "code" for node in ast.walk(ast.parse(cell.source))]
    imported = {local: full for node in nodes for local, full in _imports(node)}
    parts = [part for node in nodes for part in _attributes(node, imported)]
    modules = {module for module, _ in parts}
    named = [full for full in imported.values() if full not in modules]
    return list(dict.fromkeys([*named, *(f"{module}.{name}" for module, name in parts)]))


def say_where_used(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Add to a function's page the chapters that use it (handles `autodoc-process-docstring`)."""
    chapters = [path for path in _chapters(app) if name in _named_in(path, path.stat().st_mtime_ns)]
    if chapters:
        links = ", ".join(f":doc:`/{path.parent.name}/{path.stem}`" for path in chapters)
        lines += ["", f"Used in {links}.", ""]


def skip_field(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, of which autodoc knows no more than the number."""
    return True if (thing.__doc__ or "").startswith("Alias for field number") else None


def links_to(names: list[str]) -> str:
    """A line of Markdown that leads to functions and classes."""
    links = ", ".join(f"{{py:obj}}`{name}`" for name in names)
    return f"Functions of this page: {links}." if links else ""


def _chapters(app: Sphinx) -> list[Path]:
    return sorted((Path(app.srcdir) / "notebooks").glob("*.ipynb"))


@cache
def _named_in(path: Path, written: int) -> frozenset[str]:
    """What the notebook at `path`, last written at `written`, names of this package."""
    return frozenset(used_by(read_notebook(path.read_text("utf8"))))


def _imports(node: ast.AST) -> list[tuple[str, str]]:
    """Local names of what a statement imports from this package, and their full names."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == _PACKAGE:
        return [(alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names]
    if isinstance(node, ast.Import):
        return [(alias.name, alias.name) for alias in node.names if alias.name == _PACKAGE]
    return []


def _attributes(node: ast.AST, imported: dict[str, str]) -> list[tuple[str, str]]:
    """What is looked up in something imported from this package: its full name and the attribute's."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
        return [(imported[node.value.id], node.attr)]
    return []
