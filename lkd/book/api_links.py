"""Links between API pages and the chapters that use their functions."""

import ast
from functools import cache
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from sphinx.application import Sphinx

from lkd.book.executed import read_notebook

_PACKAGE = "lkd"


def used_by(notebook: NotebookNode) -> list[str]:
    """Full names of this package's functions and classes in a notebook's code, in order.

    Example:
        >>> from nbformat.v4 import new_code_cell, new_notebook
        >>> code = "from lkd import figures\\nfrom lkd.study import by_cell\\nfigures.lines(by_cell())"
        >>> used_by(new_notebook(cells=[new_code_cell(code)]))
        ['lkd.study.by_cell', 'lkd.figures.lines']
    """
    nodes = [node for cell in notebook.cells if cell.cell_type == "code" for node in ast.walk(ast.parse(cell.source))]
    imported = {local: full for node in nodes for local, full in _imports(node)}
    parts = [part for node in nodes for part in _attributes(node, imported)]
    modules = {module for module, _ in parts}
    imports = [full for full in imported.values() if full not in modules]
    return list(dict.fromkeys([*imports, *(f"{module}.{name}" for module, name in parts)]))


def say_where_used(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Add links to the chapters that use a function to its docstring (handles `autodoc-process-docstring`)."""
    chapters = [path for path in _chapters(app) if name in _names_in(path, path.stat().st_mtime_ns)]
    if chapters:
        links = ", ".join(f":doc:`/{path.parent.name}/{path.stem}`" for path in chapters)
        lines += ["", f"Used in {links}.", ""]


def skip_field(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Skip the fields of named tuples: autodoc has only their number (handles `autodoc-skip-member`)."""
    return True if (thing.__doc__ or "").startswith("Alias for field number") else None


def links_to(names: list[str]) -> str:
    """A line of Markdown with links to functions and classes."""
    links = ", ".join(f"{{py:obj}}`{name}`" for name in names)
    return f"Functions of this page: {links}." if links else ""


def _chapters(app: Sphinx) -> list[Path]:
    return sorted((Path(app.srcdir) / "notebooks").glob("*.ipynb"))


@cache
def _names_in(path: Path, written: int) -> frozenset[str]:
    """This package's names in the notebook at `path`; cached by `written`, its modification time."""
    return frozenset(used_by(read_notebook(path.read_text("utf8"))))


def _imports(node: ast.AST) -> list[tuple[str, str]]:
    """Pairs of local and full names that a statement imports from this package."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == _PACKAGE:
        return [(alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names]
    if isinstance(node, ast.Import):
        return [(alias.name, alias.name) for alias in node.names if alias.name == _PACKAGE]
    return []


def _attributes(node: ast.AST, imported: dict[str, str]) -> list[tuple[str, str]]:
    """The full name of an imported object and the attribute that is read from it, if any."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
        return [(imported[node.value.id], node.attr)]
    return []
