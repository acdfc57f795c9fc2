"""Text from users is escaped everywhere on a page: none of it becomes HTML or Markdown."""

import ast
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import IPython.display
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from docutils.core import publish_parts
from markdown_it import MarkdownIt
from myst_parser.parsers.docutils_ import Parser
from nbformat.v4 import new_code_cell, new_output
from throwaway import CONFIG, Book, executed, figure, first

from lkd import figures
from lkd.book.figure_output import figure_html
from lkd.book.front_page import best_verdicts, scale_html
from lkd.book.runner import NOTEBOOKS
from lkd.book.table_output import table_html
from lkd.export.card import _field_table
from lkd.paper.verdicts import ledger
from lkd.profiles import Profile
from lkd.runs.store import Store
from lkd.tables import MIME_TYPE, Table
from lkd.util.markdown import code, fenced, markdown_table, plain

SLY = (
    "<script>alert(1)</script> <img src=x onerror=alert(1)> *a* [b](c) {{ d }} [e](javascript:alert(1)) ![f](g) "
    "<https://h.i> `j` ``k | l $m$ $$n$$ {abs}`o` {download}`p` % q &lt; &#60; \\ [^r] (s)= ~~t~~ :::{raw} html "
    "- 1. # + ``` https://u.v"
)
LINES = (
    f"{SLY}\n\n# heading\n\n```{{raw}} html\n<b>bold</b>\n```\n\n:::{{note}}\n:::\n\n---\n\n<!-- w -->\n\n    indented"
)
ACTIVE = "img, iframe, object, svg, b, h1, .math, .note, a[href=c], a[href^=javascript], a[href*='u.v'], a[href*='h.i']"


def active(page: BeautifulSoup) -> list[Any]:
    """Elements created from the typed text."""
    scripts = [script for script in page.select("script") if script.text.strip() == "alert(1)"]
    return scripts + page.select("img[onerror], a[href=c], a[href^=javascript]")


def as_page(text: str) -> str:
    """Markdown as a page of the book has it."""
    settings = {"myst_enable_extensions": CONFIG["parse"]["myst_enable_extensions"], "report_level": 5}
    return publish_parts(text, parser=Parser(), writer_name="html5", settings_overrides=settings)["body"]


READERS: dict[str, Callable[[str], str]] = {
    "page": as_page,
    "output": MarkdownIt("commonmark").render,
    "hub": MarkdownIt("gfm-like").render,
}
"""Ways in which Markdown becomes HTML: on a page, in the output of a chapter, in a model card."""


def words(text: str) -> str:
    return " ".join(text.split())


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
    assert f"with profile {SLY};" in box.replace(r"\|", "|") and f"-p note='{SLY}'" in box and box.count(SLY) >= 12
    assert first(page, ".lkd-plot")["aria-label"] == f"alt {SLY}"
    shown = " ".join(tag.text for tag in page.select("figure"))
    assert all(f"{word} {SLY}" in shown for word in ("caption", "column", "cell", "runs", "run"))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "text", [SLY, LINES, "$m$", "{abs}`o`", "- a", "1. a", "# a", "> a", "    a", "a\n---", "``", "\\"]
)
def test_a_text_is_plain_words_to_every_reader_of_markdown(reader: str, text: str) -> None:
    blocks = [plain(text), f"Profile {code('x')}: {plain(text)}"]
    if reader != "output":  # commonmark has no tables
        blocks += [markdown_table("a", [[plain(text)]])]
    for markdown in blocks:
        page = BeautifulSoup(READERS[reader](markdown), "html.parser")
        assert not page.select(f"{ACTIVE}, script, li, blockquote, pre, hr, em, h2, sub, s, [role]")
        assert words(page.get_text()).endswith(words(text))
    for markdown in (f"Profile {code(text)}.", fenced(text, "text")):
        page = BeautifulSoup(READERS[reader](markdown), "html.parser")
        assert not page.select(f"{ACTIVE}, script, em, h2, li, blockquote, hr")
        assert words(text) in words(page.get_text()).replace(r"\|", "|")


@pytest.fixture
def sly_profile(tmp_path: Path) -> Path:
    """A profile, everything in which that may be any text was chosen to be taken for markup."""
    path = tmp_path / "<img src=x onerror=alert(1)> $m$ `x`.yaml"
    variants = {"feature_kd": {"variants": {SLY: {"objective": "kd"}}}}
    path.write_text(json.dumps({"extends": "smoke", "description": LINES, "chapters": variants}))
    return path


@pytest.mark.parametrize("imagenet", [None, f"/data/{SLY}"], ids=["no folder", "folder"])
@pytest.mark.parametrize("chapter", [name for name, path in NOTEBOOKS.items() if "Markdown(" in path.read_text()])
def test_what_chapters_write_in_markdown_has_no_markup_of_names(
    chapter: str, imagenet: str | None, sly_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(IPython.display, "Markdown", written.append)
    results = SimpleNamespace(objectives={SLY: {SLY: LINES}})
    variables = {"profile": str(sly_profile), "imagenet": imagenet, "results": results}
    for cell in json.loads(NOTEBOOKS[chapter].read_text())["cells"]:
        source = "".join(cell["source"]) if cell["cell_type"] == "code" else ""
        for statement in ast.parse(source).body if "Markdown" in source else ():
            with suppress(Exception):  # of a statement that would train: its parameters are not here
                exec(compile(ast.Module([statement], []), chapter, "exec"), variables)
    for text in written:
        for reader in READERS.values():
            page = BeautifulSoup(reader(text), "html.parser")
            assert not page.select(f"{ACTIVE}, script")
    shown = words(" ".join(BeautifulSoup(as_page(text), "html.parser").get_text() for text in written))
    assert sly_profile.stem in shown and words(LINES) in shown


def test_names_of_runs_are_no_markup_in_figures_and_tables() -> None:
    names = [f"{SLY} {place}" for place in range(2)]
    gains = pd.DataFrame(
        {"teacher": names, "student": SLY, "objective": SLY, "direct_gain": [1.0, 2.0], SLY: [SLY] * 2}
    )
    drawn = json.loads(figures.gains(gains).to_json())
    for told in (drawn["layout"]["annotations"], drawn["data"]):
        assert "alert(1)" in json.dumps(told) and "<script" not in json.dumps(told) and "$" not in json.dumps(told)
    bundle = Table(gains, "gains", SLY)._repr_mimebundle_()
    for html in (figure_html(drawn, SLY), bundle["text/html"], table_html(bundle[MIME_TYPE], SLY)):
        page = BeautifulSoup(html, "html.parser")
        assert active(page) == [] and not page.select("img, b, em")
        assert SLY in page.get_text()


def test_a_profiles_words_are_text_on_the_front_page_and_names_in_a_card(sly_profile: Path, store: Store) -> None:
    profile = Profile.load(str(sly_profile))
    page = BeautifulSoup(scale_html(best_verdicts({SLY: ledger(profile.source, store)}), {}), "html.parser")
    assert active(page) == [] and words(LINES) in words(page.get_text())
    card = BeautifulSoup(READERS["hub"](_field_table({SLY: {LINES: [SLY]}})), "html.parser")
    assert not card.select(f"{ACTIVE}, script")


def test_a_complaint_is_text_without_folders(tmp_path: Path) -> None:
    book = replace(Book.written_to(tmp_path), home=tmp_path / "<img src=x onerror=alert(1)> *a*")
    book.run(executed())
    book.copy.write_text(f"{{ {SLY}")
    status, output = book.build()
    assert status != 0 and str(book.copy) in words(output)
    assert active(book.page()) == []
    told = words(first(book.page(), ".admonition.error").text)
    assert told.startswith("Error The executed copy tiny.ipynb of chapter tiny cannot be read") and "home" not in told


@pytest.mark.parametrize("name", ['a"><script>alert(1)</script>.csv', "a&amp;b.csv"])
def test_a_files_name_is_text(name: str) -> None:
    content = Table(pd.DataFrame({"x": [1]}), name, "X.")._repr_mimebundle_()[MIME_TYPE]
    page = BeautifulSoup(table_html(content, name), "html.parser")
    assert active(page) == []
    assert first(page, "a")["download"] == name and first(page, "figure")["id"] == f"table-{name}"
