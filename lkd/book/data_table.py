"""A small table of data as HTML, and as a CSV file within a link."""

import csv
import io
from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import quote

Rows = Sequence[Sequence[Any]]

_RIGHT = ' class="lkd-number"'
_LONG = 40
"""Characters from which on a text is set in several lines."""


def html_table(columns: Sequence[str], rows: Rows, digits: int | None = None) -> str:
    """The table as HTML, numbers set right, with so many decimal places or rounded to what one reads."""
    head = "".join(_head(column, [row[place] for row in rows]) for place, column in enumerate(columns))
    body = "\n".join(f"<tr>{''.join(_cell(value, digits) for value in row)}</tr>" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def csv_link(columns: Sequence[str], rows: Rows, name: str) -> str:
    """A link that downloads the table, in full precision, as the file `name`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    address = f"data:text/csv;charset=utf-8,{quote(text.getvalue())}"
    return f'<a class="lkd-download" download="{escape(name)}" href="{address}">Download as CSV</a>'


def number(value: float) -> str:
    """A number with five significant digits, and no exponent where it can be read without.

    Example:
        >>> number(0.873412), number(120000.0), number(3e-05)
        ('0.87341', '120000', '3e-05')
    """
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.5g}"


def _head(column: str, values: Sequence[Any]) -> str:
    """The heading of a column, on the side where its values stand."""
    numeric = all(_is_missing(value) or _is_number(value) for value in values)
    return f'<th scope="col"{_RIGHT if numeric else ""}>{escape(str(column))}</th>'


def _cell(value: Any, digits: int | None) -> str:
    """One cell; a missing value is a dash."""
    if _is_missing(value):
        return f"<td{_RIGHT}>–</td>"
    if _is_number(value):
        decimals = digits is not None and isinstance(value, float)
        return f"<td{_RIGHT}>{f'{value:,.{digits}f}' if decimals else number(value)}</td>"
    long = ' class="lkd-long"' if len(str(value)) > _LONG else ""
    return f"<td{long}>{escape(str(value))}</td>"


def _is_missing(value: Any) -> bool:
    """Whether there is no value: None or not a number."""
    return value is None or value != value


def _is_number(value: Any) -> bool:
    """Whether the value is a number, not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)
