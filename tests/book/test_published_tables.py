"""The directives of published numbers, in a tiny book."""

from pathlib import Path

import pytest
from bs4 import Tag
from throwaway import Book, executed, first

from lkd.book.published_tables import markdown
from lkd.paper import published_table, tables


@pytest.fixture
def book(tmp_path: Path) -> Book:
    book = Book.written_to(tmp_path)
    book.run(executed())
    return book


def built(book: Book, directive: str) -> tuple[int, str]:
    (book.root / "notes.md").write_text(f"# Notes\n\n## A paper\n\n```{{{directive}\n```\n")
    return book.build()


def cells(row: Tag, kind: str = "td") -> list[str]:
    return [cell.text.strip() for cell in row.select(kind)]


def test_a_table_has_units_provenance_and_what_to_know_of_it(book: Book) -> None:
    status, output = built(book, "published} l2s_300ep")
    assert status == 0, output
    box = first(book.page("notes"), ".lkd-published")
    assert "ConvNeXt students distilled from SLaK" in first(box, "strong").text
    head = cells(first(box, "thead tr"), "th")
    assert head[3:5] == ["top1 (%)", "params (M)"] and head[-1] == "provenance"
    assert cells(box.select("tbody tr")[1])[-4:] == ["SLaK-T 51x51", "82.5", "NKD", "source_seen"]
    assert cells(box.select("tbody tr")[0])[-2] == "not applicable"
    text = " ".join(box.text.split())
    assert "Place: comparison with other pure ConvNets (table number not seen)" in text
    assert "Source: VITA-Group/SLaK:README.md@44b4aab" in text and "Caveat: The README’s table" in text


def test_blanks_read_not_stated_and_mixed_rows_keep_their_words(book: Book) -> None:
    assert built(book, "published} l2s_sota")[0] == 0
    box = first(book.page("notes"), ".lkd-published")
    rows = [cells(row) for row in box.select("tbody tr")]
    assert rows[1][-1] == "source_seen" and rows[2][1:] == ["not stated"] * 3 + ["not_found"]
    assert "not stated in the available sources" in " ".join(box.text.split())


def test_a_paper_has_a_section_for_each_table(book: Book) -> None:
    status, output = built(book, "published-paper} VanillaKD")
    assert status == 0, output
    page = book.page("notes")
    assert [tag["id"] for tag in page.select("section section section")] == [
        f"published-{i}" for i in tables("VanillaKD")
    ]
    assert all(page.select_one(f"a[href='#published-{id}']") for id in tables("VanillaKD"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("directive", "nearest"), [("published} l2s_300epp", "l2s_300ep"), ("published-paper} VanilaKD", "VanillaKD")]
)
def test_an_unknown_name_fails_every_strict_build(book: Book, directive: str, nearest: str) -> None:
    for _ in range(2):
        status, output = built(book, directive)
        assert status != 0
        assert f"did you mean '{nearest}'" in output
    assert f"did you mean ‘{nearest}’" in first(book.page("notes"), ".admonition.error").text.replace("'", "’")


@pytest.mark.parametrize("id", tables())
def test_markdown_is_as_wide_in_every_row_and_has_no_markup_of_the_file(id: str) -> None:
    lines = [line for line in markdown(id).splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in lines} <= {len(published_table(id).columns) + 2}
    assert not any(mark in line.replace(f"\\{mark}", "") for line in lines[2:] for mark in ("<", "*", "[", "$", "{"))


def test_an_empty_table_says_so() -> None:
    assert "none is known" in markdown("l2s_learning_curves") and "| --- |" not in markdown("l2s_learning_curves")
