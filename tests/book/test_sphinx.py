import io
import json
import subprocess
import sys
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from PIL import Image
from playwright.sync_api import Browser, Page, Route
from throwaway import ALT, COLUMNS, CONFIG, NAME, ROWS, Book, executed, figure, first

from lkd.book.figure_output import MIME_TYPE, PlotlyRenderer
from lkd.book.pages import SMOKE
from lkd.book.provenance_box import duration, how_made
from lkd.book.table_output import number
from lkd.erf import area_ratios
from lkd.figures import fields
from lkd.runs import published as records
from lkd.util.markdown import code, fenced

PAGES = ("index", "notes", f"notebooks/{NAME}")


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book.written_to(tmp_path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Book:
    book = Book.written_to(tmp_path_factory.mktemp("book"))
    book.run(executed())
    status, output = book.build()
    assert status == 0, output
    return book


def with_error() -> NotebookNode:
    notebook = executed()
    error = new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"])
    notebook.cells.append(new_code_cell("fail()", outputs=[error]))
    return notebook


def with_banner_of_papermill() -> NotebookNode:
    notebook = executed()
    tags = {"tags": ["papermill-error-cell-tag"]}
    notebook.cells.append(new_markdown_cell("An exception was encountered", metadata=tags))
    return notebook


def without_record() -> NotebookNode:
    notebook = executed()
    del notebook.metadata["lkd"]
    return notebook


class TestFigures:
    def test_each_output_is_one_figure_with_its_words(self, built: Book) -> None:
        (shown,) = built.page().select("figure.lkd-figure")
        target = first(shown, ".lkd-plot")
        assert (target["role"], target["aria-label"]) == ("group", ALT)
        assert target["style"] == "min-height: 300px"
        assert first(shown, "figcaption").text == "A caption < here"

    def test_table_holds_the_numbers(self, built: Book) -> None:
        table = first(built.page(), ".lkd-figure table")
        assert [cell.text for cell in table.select("thead th[scope=col]")] == COLUMNS
        rows = [[cell.text for cell in row.select("td")] for row in table.select("tbody tr")]
        assert rows == [["1", "0.5", "a"], ["2", "0.91235", "b"], ["3", "–", "c|d"]]

    def test_csv_holds_them_in_full(self, built: Book) -> None:
        link = first(built.page(), "a.lkd-download")
        lines = unquote(str(link["href"]).partition(",")[2]).splitlines()
        assert lines == [",".join(COLUMNS), "1,0.5,a", f"2,{ROWS[1][1]},b", "3,,c|d"]

    def test_json_cannot_end_its_script(self, built: Book) -> None:
        text = first(built.page(), ".lkd-figure script").text
        expected = figure()
        del expected["layout"]["meta"]["table"]
        assert "<" not in text
        assert json.loads(text) == {"data": expected["data"], "layout": expected["layout"]}

    @pytest.mark.slow
    @pytest.mark.parametrize("word", ["alt", "table"])
    def test_missing_words_fail_every_strict_build(self, book: Book, word: str) -> None:
        book.run(executed(shown=figure(**{word: None})))
        for _ in range(2):
            status, output = book.build()
            assert status != 0
            assert f"A figure has no {word}" in output

    def test_its_code_is_beside_it(self, built: Book) -> None:
        assert first(built.page(), ".lkd-figure .lkd-code pre").text.strip() == "show()"

    def test_json_may_be_text(self, book: Book) -> None:
        assert _rendered(json.dumps(figure())) == _rendered(figure())

    def test_other_books_keep_their_figures(self) -> None:
        assert _rendered(figure(), extensions=()) is None

    def test_other_builders_say_what_it_shows(self, book: Book) -> None:
        notebook = executed()
        notebook.cells[1].outputs.pop()
        book.run(notebook)
        status, output = book.build("--builder", "custom", "--custom-builder", "text")
        assert status == 0, output
        text = (book.root / "_build" / "text" / "notebooks" / f"{NAME}.txt").read_text()
        assert ALT in " ".join(text.split())


def _rendered(content: Any, extensions: tuple[str, ...] = ("lkd.book",)) -> list[str] | None:
    env = SimpleNamespace(docname="notebooks/x", app=SimpleNamespace(extensions=extensions))
    renderer: Any = SimpleNamespace(renderer=SimpleNamespace(sphinx_env=env, md_options={}))
    data: Any = SimpleNamespace(mime_type=MIME_TYPE, content=content, cell_index=0, output_index=0, line=None)
    nodes = PlotlyRenderer.handle_mime(renderer, data, inline=False)
    return nodes and [node.astext() for node in nodes]


class TestBox:
    def test_changed_parameters_are_bold(self, built: Book) -> None:
        table = first(built.page(), ".lkd-made table")
        rows = [[cell.text.strip() for cell in row.select("td")] for row in table.select("tbody tr")]
        assert rows == [
            ["seeds", "Seeds of the runs", "[0, 1]", "[0]"],
            ["rate", "Learning rate | {{ x }} $a$ <i>", "0.1", "1e-05"],
            ["note", "", "''", "x | `y` <b>"],
            ["epochs", "How long", "2", "2"],
        ]
        assert [bold.text for bold in table.select("strong")] == ["[0]", "1e-05", "x | `y` <b>"]

    def test_commands_run_it_again(self, built: Book) -> None:
        ours, papermill, one_run = (block.text.strip() for block in built.page().select(".lkd-made pre"))
        assert ours == f"lkd run {NAME} -p seeds='[0]' -p note='x | `y` <b>'"
        values = "'{seeds: [0], rate: 1.0e-05, note: x | `y` <b>}'"
        assert papermill == f"papermill notebooks/{NAME}.ipynb out.ipynb -y {values}"
        assert one_run == "accelerate launch --multi_gpu --num_processes 8 -m lkd run-recipe ID"

    def test_a_parameter_may_be_a_mapping(self) -> None:
        copy = executed()
        copy.metadata.lkd.parameters.append({"name": "settings", "default": "{}", "used": "{'lr': 0.1}", "help": ""})
        copy.metadata.papermill.parameters.settings = {"lr": 0.1, "schedule": {"warmup": 0}}
        assert "settings: {lr: 0.1, schedule: {warmup: 0}}}'" in how_made(NAME, nbformat.from_dict(copy).metadata)

    def test_says_what_a_gpu_would_take_where_that_is_published(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(records, "published_flops", lambda profile: {"erf": 468 * 10**12})
        told = how_made("erf", executed().metadata)
        assert "4.7e+14 floating-point operations: 1 min 20 s of one NVIDIA A100 SXM 80 GB at 30% of its peak" in told
        assert "floating-point" not in how_made("logit_kd", executed().metadata)

    def test_offers_the_notebook(self, built: Book) -> None:
        link = first(built.page(), ".lkd-made a.download")
        downloaded = built.html().parent / str(link["href"])
        assert nbformat.read(downloaded, 4) == nbformat.read(built.source, 4)

    def test_says_when_and_with_what(self, built: Book) -> None:
        box = " ".join(first(built.page(), ".lkd-made").text.split())
        assert "Started 2025-11-22 00:21 UTC with profile small; took 1 min 23 s." in box
        assert "lkd 0.1.0, source 0123456789ab" in box
        assert "torch 2.14.1" in box

    @pytest.mark.parametrize(
        ("seconds", "said"),
        [(0.04, "0.0 s"), (9.96, "10 s"), (59.7, "1 min 0 s"), (3599.6, "1 h 0 min"), (90061, "25 h 1 min")],
    )
    def test_durations_are_said(self, seconds: float, said: str) -> None:
        assert duration(seconds) == said

    def test_fences_outgrow_backticks(self) -> None:
        assert code("a``b\n|") == "``` a``b \\| ```"
        assert fenced("````\nx\n````", "bash").splitlines()[0] == "`````bash"

    @pytest.mark.parametrize(
        ("value", "shown"), [(0.873412, "0.87341"), (3.0, "3"), (1234567.8, "1234568"), (3e-5, "3e-05"), (-7, "-7")]
    )
    def test_numbers_are_rounded(self, value: float, shown: str) -> None:
        assert number(value) == shown


class TestChapters:
    @pytest.mark.slow
    def test_missing_one_fails_until_it_is_run(self, book: Book) -> None:
        for _ in range(2):
            status, output = book.build()
            assert status != 0
            assert f"run `lkd run {NAME}`" in output
        assert f"lkd run {NAME}" in first(book.page(), ".admonition.error").text
        book.run(executed())
        assert book.build()[0] == 0
        assert book.page().select_one(".admonition.error") is None
        book.copy.unlink()
        assert book.build()[0] != 0

    @pytest.mark.slow
    @pytest.mark.parametrize("notebook", [with_error(), with_banner_of_papermill(), without_record()])
    def test_broken_one_fails_every_build(self, book: Book, notebook: NotebookNode) -> None:
        book.run(notebook)
        for _ in range(2):
            status, output = book.build()
            assert status != 0
            assert f"run `lkd run {NAME}`" in output

    def test_unreadable_one_fails(self, book: Book) -> None:
        book.run(executed())
        book.copy.write_text("{")
        status, output = book.build()
        assert status != 0
        assert "cannot be read" in output

    @pytest.mark.slow
    def test_new_run_renews_the_page(self, book: Book) -> None:
        book.run(executed())
        book.build()
        renewed = executed()
        renewed.cells[0].source = "# Renewed"
        book.run(renewed)
        assert book.build()[0] == 0
        assert first(book.page(), "h1").text.startswith("Renewed")

    def test_source_stays_clean(self, built: Book) -> None:
        source = built.root / "_build" / "html" / "_sources" / "notebooks" / f"{NAME}.ipynb"
        assert nbformat.read(source, as_version=4).cells == nbformat.read(built.source, as_version=4).cells

    @pytest.mark.slow
    def test_smoke_run_is_announced_on_every_page(self, book: Book) -> None:
        book.run(executed(profile="smoke"))
        assert book.build()[0] == 0
        banners = [book.page(page).select_one(".bd-header-announcement") for page in PAGES]
        assert [banner and banner.text.strip() for banner in banners] == [SMOKE] * len(PAGES)
        book.run(executed())
        assert book.build()[0] == 0
        assert not any(book.page(page).select_one(".bd-header-announcement") for page in PAGES)


class TestOffline:
    def test_pages_name_no_other_host(self, built: Book) -> None:
        for page in (*PAGES, "search", "genindex"):
            for tag in built.page(page).select("[src], link[href], a[href]"):
                assert urlsplit(str(tag.get("src") or tag.get("href"))).scheme in ("", "data"), tag
            assert "unpkg.com" not in built.html(page).read_text("utf8")

    def test_local_scripts_exist(self, built: Book) -> None:
        for page in PAGES:
            for tag in built.page(page).select("script[src]"):
                assert (built.html(page).parent / urlsplit(str(tag["src"])).path).is_file(), tag

    def test_only_the_search_loads_its_index_and_no_page_loads_icons_as_a_script(self, built: Book) -> None:
        for page in (*PAGES, "search"):
            scripts = {
                PurePosixPath(urlsplit(str(tag["src"])).path).name for tag in built.page(page).select("script[src]")
            }
            assert "fontawesome.js" not in scripts
            assert ("searchindex.js" in scripts) == (page == "search"), page

    @pytest.mark.parametrize(
        ("statement", "heavy"),
        [("from lkd.book import comparison, costs, front_page, pages", "torch"), ("import lkd.book.runner", "sphinx")],
    )
    def test_imports_are_light(self, statement: str, heavy: str) -> None:
        program = f"import sys; {statement}; sys.exit({heavy!r} in sys.modules)"
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class TestReferences:
    @pytest.mark.slow
    def test_each_is_an_item_of_a_list(self, book: Book) -> None:
        (book.root / "notes.md").write_text("# Notes\n\n```{bibliography}\n:all:\n```\n")
        (book.root / "some.bib").write_text(
            "@misc{a, author={A, B}, title={One}, year={2020}}\n@misc{b, author={C, D}, title={Two}, year={2021}}\n"
        )
        (book.root / "_config.yml").write_text(yaml.safe_dump({**CONFIG, "bibtex_bibfiles": ["some.bib"]}))
        book.run(executed())
        assert book.build()[0] == 0
        assert [tag["role"] for tag in book.page("notes").select("[role=list] > *")] == ["listitem"] * 2


class TestBrowser:
    def test_figures_are_drawn_and_follow_the_theme(self, built: Book, browser: Browser) -> None:
        page, foreign = _opened(built, browser, width=1280)
        colour = "() => getComputedStyle(document.querySelector('.lkd-plot .gtitle')).fill"
        page.evaluate("document.documentElement.dataset.theme = 'light'")
        light = page.evaluate(colour)
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        page.wait_for_function(f"light => ({colour})() !== light", arg=light)
        assert page.locator(".lkd-plot .modebar-btn--logo").count() == 0
        assert page.get_by_label("Zoom", exact=True).count() == 1
        assert page.get_by_label("Share").count() == 0
        assert page.locator("mjx-container svg").count() == 0
        page.goto(built.html("index").as_uri())
        page.wait_for_selector("mjx-container svg")
        assert page.evaluate("typeof Plotly") == "undefined"
        assert foreign == []
        page.context.close()

    def test_keys_move_the_slider_of_a_figure(self, book: Book, browser: Browser) -> None:
        away = np.abs(np.arange(33) - 16)
        field = 1e3 * np.exp(-np.maximum(away[:, None], away))
        book.run(executed(shown=json.loads(fields({"near": field}, title="a net").to_json())))
        assert book.build()[0] == 0
        page, _ = _opened(book, browser, width=1280)
        side = "document.querySelector('.lkd-plot').layout.shapes[0].x1 * 2"
        title = page.locator(".lkd-plot .annotation-text")
        slider = page.get_by_role("slider")
        assert page.locator(".lkd-plot .slider-group").count() == 0
        for key, threshold in ((None, 0.5), ("ArrowRight", 0.99), ("Home", 0.2)):
            slider.press(key) if key else slider.focus()
            expected = area_ratios(field, [threshold])[0].side
            page.wait_for_function(f"{side} === {expected}")
            assert slider.get_attribute("aria-valuetext") == f"{threshold:g}"
            assert title.text_content() == f"near, {expected} px"
        page.context.close()

    def test_a_figure_is_saved_as_a_slide_on_white_in_any_theme(self, built: Book, browser: Browser) -> None:
        page, foreign = _opened(built, browser, width=1280)
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        saved = {}
        for kind in ("SVG", "PNG"):
            button = page.get_by_role("button", name=f"Save figure 1 as {kind}")
            button.focus()
            with page.expect_download() as saving:
                page.keyboard.press("Enter")
            assert saving.value.suggested_filename == f"{NAME}-1-0.{kind.lower()}"
            saved[kind] = saving.value.path().read_bytes()
        svg = BeautifulSoup(saved["SVG"], "html.parser").svg
        assert svg is not None and (svg["width"], svg["height"]) == ("1600", "900")
        assert "fill: rgb(255, 255, 255)" in str(svg.rect) and "Tiny figure" in svg.get_text()
        slide = Image.open(io.BytesIO(saved["PNG"]))
        assert slide.size == (1600, 900) and slide.getpixel((2, 2))[:3] == (255, 255, 255)
        assert foreign == []
        page.context.close()

    def test_nothing_overflows_a_phone(self, built: Book, browser: Browser) -> None:
        page, _ = _opened(built, browser, width=390)
        page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.context.close()

    def test_without_scripts_the_numbers_stand_open(self, built: Book, browser: Browser) -> None:
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(built.html().as_uri())
        assert page.locator(".lkd-figure figcaption").is_visible() and page.locator(".lkd-data table").is_visible()
        assert not page.locator(".lkd-plot").is_visible()
        context.close()


def _opened(book: Book, browser: Browser, width: int) -> tuple[Page, list[str]]:
    """The chapter in a window of this width with its figure drawn, and its requests to other hosts."""
    page = browser.new_context(viewport={"width": width, "height": 800}).new_page()
    foreign: list[str] = []

    def local_only(route: Route) -> None:
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            foreign.append(route.request.url)
            route.abort()

    page.route("**/*", local_only)
    page.on("pageerror", lambda error: foreign.append(f"error on the page: {error}"))
    page.goto(book.html().as_uri())
    page.locator(".lkd-plot").scroll_into_view_if_needed()
    page.wait_for_selector(".lkd-plot[data-drawn=true] .main-svg")
    return page, foreign
