"""Directives that show published numbers: `{published}` one table, `{published-paper}` all tables of a paper."""

from collections.abc import Callable, Sequence

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from lkd.book.page_warnings import report
from lkd.paper.published import FILE, NOT_STATED, Cell, Table, published_table, shown, tables
from lkd.util.markdown import code, markdown_table, plain

_UNSTATED = "not stated"


def markdown(id: str) -> str:
    """A published table as MyST Markdown: cells with units in the heads, each row's provenance, and what to know of it.

    Raises:
        KeyError: an unknown id, with the nearest known one.

    Example:
        >>> from lkd.book.published_numbers import markdown
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
        """The table, or what is wrong with the id."""
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
        """The sections, or what is wrong with the name."""
        return _or_fault(self, self._shown)

    def _shown(self) -> list[nodes.Node]:
        """A section a table, its caption as the heading."""
        return [self._section(id) for id in tables(self.arguments[0])]

    def _section(self, id: str) -> nodes.section:
        title = nodes.title(text=published_table(id).caption)
        return nodes.section("", title, _filled(self, id, []), ids=[f"published-{id}"], names=[id])


def _or_fault(directive: SphinxDirective, show: Callable[[], list[nodes.Node]]) -> list[nodes.Node]:
    """What `show` gives; for an unknown name a warning that fails a strict build, and an error on the page."""
    directive.env.note_dependency(str(FILE))
    try:
        return show()
    except KeyError as error:
        (message,) = error.args
        report(directive.env, message, "published", directive.lineno)
        return [nodes.error("", nodes.paragraph(text=message))]


def _filled(directive: SphinxDirective, id: str, above: Sequence[nodes.Node]) -> nodes.container:
    """A box with what stands above and the table, in which wide tables scroll."""
    box = nodes.container("", *above, classes=["lkd-published"])
    lines = StringList(markdown(id).splitlines(), source=str(FILE))
    directive.state.nested_parse(lines, directive.content_offset, box)
    return box


def _cells(table: Table) -> str:
    """The rows, numbers set right."""
    header = [plain(_head(name, table)) for name in table.columns]
    right = [place for place in range(len(header)) if _is_numeric([row[place] for row in table.rows])]
    rows = [
        [*(_cell(cell) for cell in row), plain(word)] for row, word in zip(table.rows, table.provenance, strict=True)
    ]
    return markdown_table([*header, "provenance"], rows, right)


def _notes(table: Table) -> list[str]:
    """Where it stands, where it was read, and what to bear in mind."""
    said = [("Place", table.place), ("Source", table.source), ("Caveat", table.caveat)]
    if not table.rows:
        said.insert(0, ("Rows", f"none is known; its columns would be {', '.join(table.columns)}"))
    if any(cell is None for row in table.rows for cell in row):
        said.append((_UNSTATED.capitalize(), f"{NOT_STATED}; left blank, never filled in"))
    lines = [f"- **{name}:** {plain(text)}" for name, text in said if text]
    return ["\n".join([*lines, f"- **In code:** {code(f'table({table.id!r})')}"])]


def _head(name: str, table: Table) -> str:
    """A column's name as words, with its unit."""
    words = name.replace("_", " ")
    return f"{words} ({table.units[name] or 'unit not stated'})" if name in table.units else words


def _cell(cell: Cell) -> str:
    """A cell as Markdown, in few words where there is nothing."""
    return _UNSTATED if cell is None else plain(shown(cell))


def _is_numeric(cells: Sequence[Cell]) -> bool:
    """Whether a column has numbers, and no other text than that there is none."""
    there = [cell for cell in cells if cell is not None and cell != "-"]
    return bool(there) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in there)
