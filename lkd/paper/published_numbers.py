"""Published numbers, each with its place, source and provenance.

The numbers are in `published.yaml`. A cell that the available sources do not state is null there, and missing here.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from lkd.util.checks import unknown

FILE = Path(__file__).with_name("published.yaml")

NOT_STATED = "not stated in the available sources"
NOT_APPLICABLE = "not applicable"

Cell = float | int | str | bool | None

_DASH = "-"
_NOT_FOUND = "not_found"
_TOP = {"schema_version", "null_means", "dash_means", "provenance_words", "papers", "sources", "tables"}
_KEYS = {"id", "paper", "place", "caption", "columns", "units", "rows", "provenance", "source", "caveat"}


class Number(NamedTuple):
    """A published value; None if there is none, with the reason in `format_cell`.

    Example:
        >>> from lkd.paper import value
        >>> number = value("l2s_300ep", row="ConvNeXt L2S-T", column="top1")
        >>> number.value, number.provenance
        (83.1, 'source_seen')
    """

    value: Cell
    provenance: str
    source: str
    shown: str


@dataclass(frozen=True)
class Table:
    """A published table.

    Args:
        id: key in `tables()`.
        paper: key in `papers()`.
        place: table, figure or page of the numbers.
        caption: description.
        columns: names of the columns.
        units: units of some columns, by name; None if not stated.
        rows: cells in the order of the columns; None is not stated, "-" is not applicable.
        provenance: a provenance word per row.
        source: where the numbers were read.
        sources: source of each row, if rows differ.
        caveat: a warning to readers; may be empty.
    """

    id: str
    paper: str
    place: str
    caption: str
    columns: tuple[str, ...]
    units: Mapping[str, str | None]
    rows: tuple[tuple[Cell, ...], ...]
    provenance: tuple[str, ...]
    source: str
    sources: tuple[str, ...]
    caveat: str


class Published(NamedTuple):
    """Content of the file: meanings of the provenance words, papers, and tables by id."""

    words: Mapping[str, str]
    papers: Mapping[str, Mapping[str, str]]
    tables: Mapping[str, Table]


def table(id: str) -> pd.DataFrame:
    """A published table, with a column `provenance`.

    Args:
        id: one of `tables()`.

    Returns:
        The rows of the table. A cell that is not stated is missing (None or NaN), one that is not applicable is "-".
        `attrs` has the id, paper, place, caption, units, caveat and source.

    Raises:
        KeyError: an unknown id, with the nearest known one.

    Example:
        >>> from lkd.paper import table
        >>> slak = table("slak_300ep")
        >>> float(slak.top1.max()), slak.attrs["place"]
        (84.0, 'README table, 300 epochs')
    """
    one = published_table(id)
    frame = pd.DataFrame(list(one.rows), columns=list(one.columns)).assign(provenance=list(one.provenance))
    frame.attrs = {
        name: getattr(one, name) for name in ("id", "paper", "place", "caption", "units", "source", "caveat")
    }
    return frame


def value(id: str, *, row: int | str | Mapping[str, Cell], column: str) -> Number:
    """One cell of a published table.

    Args:
        id: one of `tables()`.
        row: its number from 0, its entry in the first column, or entries of some columns, by name.
        column: name of the column.

    Returns:
        The value with its provenance and source. The provenance of a cell that is not stated is "not_found", not the
        word of its row.

    Raises:
        KeyError: an unknown id or column, with the nearest known one.
        LookupError: no row, or more than one.

    Example:
        >>> from lkd.paper import value
        >>> value("slak_kernel_sweep_120ep", row={"kernel": "51x51"}, column="top1").value
        81.6
        >>> value("l2s_sota", row="Swin V2-T", column="top1").shown
        'not stated in the available sources'
    """
    one = published_table(id)
    if column not in one.columns:
        raise KeyError(unknown(f"column of {id}", column, one.columns))
    place = _row(one, row)
    cell = one.rows[place][one.columns.index(column)]
    word = _NOT_FOUND if cell is None else one.provenance[place]
    return Number(None if cell == _DASH else cell, word, one.sources[place], format_cell(cell))


def tables(paper: str | None = None) -> list[str]:
    """Ids of all published tables, or of one paper's, in the order of the file.

    Raises:
        KeyError: an unknown paper, with the nearest known one.

    Example:
        >>> from lkd.paper import tables
        >>> tables("NKD")
        ['nkd_repo_results']
    """
    if paper is not None and paper not in papers():
        raise KeyError(unknown("paper", paper, papers()))
    return [one.id for one in _content().tables.values() if paper in (None, one.paper)]


def papers() -> Mapping[str, Mapping[str, str]]:
    """Papers and other publications by short name, each with its `title` and other metadata.

    Example:
        >>> from lkd.paper import papers
        >>> papers()["L2S"]["arxiv"]
        '2305.19412'
    """
    return _content().papers


def provenance_words() -> Mapping[str, str]:
    """The provenance words with their meanings.

    Example:
        >>> from lkd.paper.published_numbers import provenance_words
        >>> list(provenance_words())
        ['source_seen', 'derived', 'secondary', 'not_found']
    """
    return _content().words


def published_table(id: str) -> Table:
    """A published table with all its metadata.

    Raises:
        KeyError: an unknown id, with the nearest known one.

    Example:
        >>> from lkd.paper import published_table
        >>> published_table("slak_300ep").units["top1"]
        '%'
    """
    known = _content().tables
    if id not in known:
        raise KeyError(unknown("published table", id, known))
    return known[id]


def format_cell(cell: Cell) -> str:
    """A cell as text, with numbers in full, without exponent.

    Example:
        >>> from lkd.paper.published_numbers import format_cell
        >>> format_cell(0.00003), format_cell(None), format_cell("-")
        ('0.00003', 'not stated in the available sources', 'not applicable')
    """
    if cell is None:
        return NOT_STATED
    if cell == _DASH:
        return NOT_APPLICABLE
    return f"{Decimal(str(cell)):f}" if isinstance(cell, float) else str(cell)


def read_tables(path: Path) -> Published:
    """Read and check a file of published numbers.

    Raises:
        ValueError: the first error, with its table.
    """
    content = yaml.safe_load(path.read_text("utf8"))
    try:
        _same_keys(content, _TOP)
        words, papers, sources = content["provenance_words"], content["papers"], content["sources"]
        repeated = [id for id, count in Counter(one.get("id") for one in content["tables"]).items() if count > 1]
        if repeated:
            raise ValueError(f"{len(repeated)} ids are used twice, first {repeated[0]!r}: give each table its own")
        known = {one["id"]: _table(one, words, papers, sources) for one in content["tables"]}
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return Published(words, papers, known)


@cache
def _content() -> Published:
    return read_tables(FILE)


def _row(one: Table, row: int | str | Mapping[str, Cell]) -> int:
    """Index of the row that `row` names."""
    if isinstance(row, int):
        if not 0 <= row < len(one.rows):
            raise LookupError(f"row of {one.id} must be 0 to {len(one.rows) - 1}, got {row}")
        return row
    wanted = {one.columns[0]: row} if isinstance(row, str) else row
    for name in wanted:
        if name not in one.columns:
            raise KeyError(unknown(f"column of {one.id}", name, one.columns))
    cells = [dict(zip(one.columns, cells, strict=True)) for cells in one.rows]
    found = [place for place, given in enumerate(cells) if all(given[name] == wanted[name] for name in wanted)]
    if len(found) != 1:
        entries = "; ".join(dict.fromkeys(str(given[name]) for given in cells for name in wanted))
        remedy = "name more columns" if found else f"the entries are {entries}"
        raise LookupError(f"{len(found)} rows of {one.id} have {wanted}: {remedy}")
    return found[0]


def _table(
    given: Mapping[str, Any], words: Mapping[str, str], papers: Mapping[str, Any], sources: Mapping[str, str]
) -> Table:
    """A checked table from its entry in the file."""
    try:
        _same_keys(given, _KEYS, optional={"row_provenance"})
        rows, columns = given["rows"], given["columns"]
        if given["paper"] not in papers:
            raise ValueError(unknown("paper", given["paper"], papers))
        _check_columns(columns, given["units"])
        for number, row in enumerate(rows, 1):
            _check_row(number, row, len(columns))
        provenance = given.get("row_provenance", [given["provenance"]] * len(rows))
        if len(provenance) != len(rows):
            raise ValueError(f"row_provenance has {len(provenance)} words for {len(rows)} rows")
        for word in (given["provenance"], *provenance):
            if word not in words:
                raise ValueError(unknown("provenance word", word, words))
        everywhere = "; ".join(_source(name, sources) for name in given["source"])
        own = columns.index("source") if "source" in columns else None
        origins = [everywhere if own is None else _source(row[own], sources) for row in rows]
    except ValueError as error:
        raise ValueError(f"table {given.get('id')!r}: {error}") from error
    return Table(
        **{name: given[name] for name in ("id", "paper", "place", "caption", "units", "caveat")},
        columns=tuple(columns),
        rows=tuple(map(tuple, rows)),
        provenance=tuple(provenance),
        source=everywhere,
        sources=tuple(origins),
    )


def _same_keys(given: Mapping[str, Any], needed: set[str], optional: frozenset[str] | set[str] = frozenset()) -> None:
    """Refuse a mapping with missing or unknown keys."""
    if missing := sorted(needed - set(given)):
        raise ValueError(f"{', '.join(missing)} missing")
    for name in given:
        if name not in needed | optional:
            raise ValueError(unknown("key", name, needed | optional))


def _check_columns(columns: list[str], units: Mapping[str, str | None]) -> None:
    if len(set(columns)) != len(columns) or "provenance" in columns:
        raise ValueError(f"columns must differ from each other and from 'provenance', got {columns}")
    for name in units:
        if name not in columns:
            raise ValueError(unknown("column in units", name, columns))


def _check_row(number: int, row: list[Any], width: int) -> None:
    """Refuse a row of the wrong length, and cells that are neither plain values nor null."""
    if len(row) != width:
        raise ValueError(f"row {number} has {len(row)} cells for {width} columns: {row}")
    for cell in row:
        if not isinstance(cell, Cell) or (isinstance(cell, float) and not math.isfinite(cell)):
            raise ValueError(f"row {number} has the cell {cell!r}: it must be a finite number, text or null")


def _source(name: str, sources: Mapping[str, str]) -> str:
    """The reference for a source's name; text of several words is a reference itself."""
    if name in sources:
        return sources[name]
    if re.fullmatch(r"\w+", name):
        raise ValueError(unknown("source", name, sources))
    return name
