"""The code of a figure: the lines of a notebook that draw it, as a script of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

_FIGURES = "figures"


def code_of_figure(cells: Sequence[NotebookNode], place: int) -> str:
    """The statements that draw the figure of a notebook's cell, from their imports on.

    Statements without a name, such as checks, are left out.

    Args:
        cells: of the executed notebook.
        place: number of the cell with the figure.

    Returns:
        Python; "" for a cell without code.

    Example:
        >>> from nbformat.v4 import new_code_cell
        >>> from lkd.book.figure_code import code_of_figure
        >>> lines = ["from lkd import figures, metrics\\nn = 3", "table = load(n)\\nother = 2", "figures.gains(table)"]
        >>> print(code_of_figure([new_code_cell(each) for each in lines], 2))
        from lkd import figures
        <BLANKLINE>
        n = 3
        table = load(n)
        figures.gains(table)
    """
    *before, last = [list(_statements(cell)) for cell in cells[: place + 1]] or [[]]
    drawing = [each for each in last if _FIGURES in _names(each[0], ast.Load)] or last
    kept = [text for _, text in drawing]
    wanted = {name for node, _ in drawing for name in _names(node, ast.Load)}
    earlier = [*(each for cell in before for each in cell), *(each for each in last if each not in drawing)]
    imports: list[str] = []
    for node, text in reversed(earlier):
        if not (bound := _bound(node) & wanted):
            continue
        wanted -= bound
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [alias for alias in node.names if _local(alias) in bound]
            imports.append(ast.unparse(node))
        else:
            kept.insert(0, text)
            wanted |= _names(node, ast.Load)
    return "\n\n".join("\n".join(part) for part in (sorted(imports, key=_order), kept) if part)


def _statements(cell: NotebookNode) -> Iterator[tuple[ast.stmt, str]]:
    """The statements of a cell with their text; none of a cell without Python."""
    if cell.cell_type != "code":
        return
    try:
        found = ast.parse(cell.source).body
    except SyntaxError:  # a magic of IPython
        return
    for node in found:
        yield node, ast.get_source_segment(cell.source, node) or ""


def _names(node: ast.AST, use: type[ast.expr_context]) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, use)}


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement binds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return set(map(_local, node.names))
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return _names(node, ast.Store)


def _local(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _order(line: str) -> tuple[bool, str]:
    """Imports of other packages before those of this one."""
    return line.split()[1].startswith("lkd"), line
