"""Directives for published numbers: `{published}` shows one table, `{published-paper}` all tables of a paper."""

from collections.abc import Callable, Sequence

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from lkd.book.page_warnings import report
from lkd.paper.published_numbers import FILE, NOT_STATED, Cell, Table, format_cell, published_table, tables
from lkd.util.markdown import code, markdown_table, plain

_UNSTATED = "not stated"


def markdown(id: str) -> str:
    """A published table as MyST Markdown: cells, units in the headings, provenance of each row, and notes.

    Raises:
        KeyError: an unknown id, with the nearest known one.

    Example:
        >>> from lkd.book.published_tables import markdown
        >>> markdown("vkd_headline").splitlines()[1]
        '| --- | ---: | --- |'
    """
    table = published_table(id)
    body = [_cells(table), *_notes(table)] if table.rows else _notes(table)
    return "\n\n".join(body)


class PublishedTable(SphinxDirective):
    """One published table with its caption, by its id."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table, or an error for an unknown id."""
        return _or_fault(self, self._shown)

    def _shown(self) -> list[nodes.Node]:
        """The caption in bold above the table."""
        (id,) = self.arguments
        table = published_table(id)
        caption = nodes.paragraph("", "", nodes.strong(text=table.caption))
        return [_filled(self, id, [caption])]


class PublishedPaper(SphinxDirective):
    """All published tables of a paper, by its short name, each as a section."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The sections, or an error for an unknown name."""
        return _or_fault(self, self._shown)

    def _shown(self) -> list[nodes.Node]:
        """A section per table, with the caption as the heading."""
        return [self._section(id) for id in tables(self.arguments[0])]

    def _section(self, id: str) -> nodes.section:
        title = nodes.title(text=published_table(id).caption)
        return nodes.section("", title, _filled(self, id, []), ids=[f"published-{id}"], names=[id])


def _or_fault(directive: SphinxDirective, show: Callable[[], list[nodes.Node]]) -> list[nodes.Node]:
    """The result of `show`; for an unknown name a warning, which fails a strict build, and an error on the page."""
    directive.env.note_dependency(str(FILE))
    try:
        return show()
    except KeyError as error:
        (message,) = error.args
        report(directive.env, message, "published", directive.lineno)
        return [nodes.error("", nodes.paragraph(text=message))]


def _filled(directive: SphinxDirective, id: str, above: Sequence[nodes.Node]) -> nodes.container:
    """A box with the nodes `above` and the table; wide tables scroll in it."""
    box = nodes.container("", *above, classes=["lkd-published"])
    lines = StringList(markdown(id).splitlines(), source=str(FILE))
    directive.state.nested_parse(lines, directive.content_offset, box)
    return box


def _cells(table: Table) -> str:
    """The rows, with right-aligned numbers."""
    header = [plain(_head(name, table)) for name in table.columns]
    right = [place for place in range(len(header)) if _is_numeric([row[place] for row in table.rows])]
    rows = [
        [*(_cell(cell) for cell in row), plain(word)] for row, word in zip(table.rows, table.provenance, strict=True)
    ]
    return markdown_table([*header, "provenance"], rows, right)


def _notes(table: Table) -> list[str]:
    """Place, source and caveats of a table."""
    notes = [("Place", table.place), ("Source", table.source), ("Caveat", table.caveat)]
    if not table.rows:
        notes.insert(0, ("Rows", f"none is known; its columns would be {', '.join(table.columns)}"))
    if any(cell is None for row in table.rows for cell in row):
        notes.append((_UNSTATED.capitalize(), f"{NOT_STATED}; left blank, never filled in"))
    lines = [f"- **{name}:** {plain(text)}" for name, text in notes if text]
    return ["\n".join([*lines, f"- **In code:** {code(f'table({table.id!r})')}"])]


def _head(name: str, table: Table) -> str:
    """A column's name as words, with its unit."""
    words = name.replace("_", " ")
    return f"{words} ({table.units[name] or 'unit not stated'})" if name in table.units else words


def _cell(cell: Cell) -> str:
    """A cell as Markdown; "not stated" if it is empty."""
    return _UNSTATED if cell is None else plain(format_cell(cell))


def _is_numeric(cells: Sequence[Cell]) -> bool:
    """Whether a column contains only numbers and empty cells, and at least one number."""
    filled = [cell for cell in cells if cell is not None and cell != "-"]
    return bool(filled) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in filled)
