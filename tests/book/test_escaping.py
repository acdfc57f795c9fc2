"""What people typed is text on a page, wherever it stands: no character of it is HTML or Markdown."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_output
from throwaway import Book, executed, figure, first

from lkd.book.tables import table_html
from lkd.tables import MIME_TYPE, Table

SLY = "<script>alert(1)</script> <img src=x onerror=alert(1)> *a* [b](c) {{ d }}"


def active(page: BeautifulSoup) -> list[Any]:
    """Elements that what was typed has become."""
    scripts = [script for script in page.select("script") if script.text.strip() == "alert(1)"]
    return scripts + page.select("img[onerror], a[href=c]")


def sly() -> Any:
    """An executed chapter, everything in which was chosen to be taken for markup."""
    table = {"columns": [f"column {SLY}"], "rows": [[f"cell {SLY}"]]}
    notebook = executed(profile=SLY, shown=figure(alt=f"alt {SLY}", caption=f"caption {SLY}", table=table))
    runs = Table(pd.DataFrame({f"column {SLY}": [f"run {SLY}"]}), "runs", f"runs {SLY}")._repr_mimebundle_()
    notebook.cells.append(new_code_cell("runs", outputs=[new_output("display_data", runs)]))
    record = notebook.metadata["lkd"]
    words = {name: f"{name} {SLY}" for name in ("name", "default", "used", "help")}
    record["parameters"] = [words]
    record["command"] = f"lkd run tiny -p note='{SLY}'"
    record["provenance"] = {"lkd": SLY, "source": SLY, "python": SLY, "packages": {SLY: SLY}, "hardware": SLY}
    notebook.metadata["papermill"]["parameters"] = {words["name"]: SLY}
    return notebook


def test_parameters_names_and_words_of_a_chapter_are_text(tmp_path: Path) -> None:
    book = Book.written_to(tmp_path)
    book.run(sly())
    status, output = book.build()
    assert status == 0, output
    page = book.page()
    assert active(page) == []
    box = " ".join(first(page, ".lkd-made").text.split())
    assert all(f"{name} {SLY}" in box for name in ("name", "default", "used", "help"))
    assert f"with profile {SLY};" in box and f"-p note='{SLY}'" in box and box.count(SLY) >= 12
    assert first(page, ".lkd-plot")["aria-label"] == f"alt {SLY}"
    shown = " ".join(tag.text for tag in page.select("figure"))
    assert all(f"{word} {SLY}" in shown for word in ("caption", "column", "cell", "runs", "run"))


def test_a_folders_name_in_a_complaint_is_text(tmp_path: Path) -> None:
    book = replace(Book.written_to(tmp_path), home=tmp_path / "<img src=x onerror=alert(1)> *a*")
    book.run(executed())
    book.copy.write_text("{")
    assert book.build()[0] != 0
    assert active(book.page()) == []
    assert str(book.copy) in " ".join(first(book.page(), ".admonition.error").text.split())


@pytest.mark.parametrize("name", ['a"><script>alert(1)</script>.csv', "a&amp;b.csv"])
def test_a_files_name_is_text(name: str) -> None:
    content = Table(pd.DataFrame({"x": [1]}), name, "X.")._repr_mimebundle_()[MIME_TYPE]
    page = BeautifulSoup(table_html(content, name), "html.parser")
    assert active(page) == []
    assert first(page, "a")["download"] == name and first(page, "figure")["id"] == f"table-{name}"
