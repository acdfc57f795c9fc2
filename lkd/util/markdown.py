"""Markdown from arbitrary text."""

import re
from collections.abc import Collection, Iterable, Sequence

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def code(text: str) -> str:
    """`text` as inline code, safe in a cell of a Markdown table."""
    line = " ".join(text.split()).replace("|", r"\|")
    ticks = "`" * (_longest_run_of_ticks(line) + 1)
    return f"{ticks} {line} {ticks}" if line else "(empty)"


def plain(text: str) -> str:
    """`text` with all Markdown, MyST and HTML characters escaped."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(text.split()))


def fenced(body: str, info: str) -> str:
    """`body` in a fence longer than any fence inside it."""
    fence = "`" * max(3, _longest_run_of_ticks(body) + 1)
    return f"{fence}{info}\n{body}\n{fence}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> str:
    """A Markdown table of cells that contain Markdown; columns with an index in `right` are right-aligned."""
    rules = ["---:" if place in right else "---" for place in range(len(header))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rules, *rows])


def _longest_run_of_ticks(text: str) -> int:
    """The length of the longest run of backticks in `text`."""
    return max(map(len, re.findall("`+", text)), default=0)
