"""The real book, built from a smoke run of every chapter, parsed and opened in a browser."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import gates
import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import Browser

from lkd.book.offline import MATHJAX
from lkd.book.runner import NOTEBOOKS
from lkd.runs.store import Store
from lkd.util.files import CHECKOUT

pytestmark = pytest.mark.slow

LINKED_HOSTS = {"", "arxiv.org", "doi.org", "github.com", "jupyterbook.org", "www.sphinx-doc.org"}

KINDS = (
    "book/index",
    "notebooks/logit_kd",
    "notebooks/erf",
    "notebooks/robustness",
    "notebooks/your_own",
    "notebooks/examples/distil_a_timm_model",
    "book/compare",
    "book/distil",
    "book/methods",
    "book/losses",
    "book/published_numbers",
    "book/references",
    "book/api/lkd",
)
"""One page of each kind, by what its markup is made from: they pass all gates."""

ELSEWHERE = {
    "light": (gates.figures, gates.links, gates.weight, gates.requests, gates.errors),
    "phone": (gates.width,),
    "no scripts": (gates.numbers,),
}
"""The gates of the other pages, by view; none in the dark, where only colours differ."""


class Site:
    def __init__(self, folder: Path):
        self.home, self.html = folder / "home", folder / "_build" / "html"

    def run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).parent / program, *arguments],
            cwd=CHECKOUT,
            env={**os.environ, "LKD_HOME": str(self.home)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def pages(self) -> dict[str, Path]:
        toc = yaml.safe_load((CHECKOUT / "_toc.yml").read_text())
        chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
        return {name: self.html / f"{name}.html" for name in [toc["root"], *chapters]}

    def soup(self, page: str) -> BeautifulSoup:
        return BeautifulSoup(self.pages[page].read_text("utf8"), "html.parser")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, smoke_runs: Store) -> Site:
    """The built book; its chapters find their runs in the store."""
    folder = tmp_path_factory.mktemp("site")
    site = Site(folder)
    shutil.copytree(smoke_runs.folder / "runs", site.home / "runs")
    site.run("lkd", "run", *NOTEBOOKS, "-p", "profile=smoke")
    site.run("jupyter-book", "build", ".", "--path-output", str(folder), "-W", "--keep-going")
    return site


def test_every_page_of_the_table_of_contents_is_there_and_marked_as_smoke(site: Site) -> None:
    assert all("Smoke build" in site.soup(page).get_text() for page in site.pages)


@pytest.mark.parametrize("chapter", NOTEBOOKS)
def test_a_chapter_shows_each_figure_with_its_sentence_and_its_numbers(site: Site, chapter: str) -> None:
    executed = nbformat.read(site.home / "chapters" / f"{chapter}.ipynb", 4)
    drawn = [
        output.data["application/vnd.plotly.v1+json"]["layout"]["meta"]
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if "application/vnd.plotly.v1+json" in output.get("data", {})
    ]
    shown = site.soup(f"notebooks/{chapter}").select("figure.lkd-figure")
    assert drawn
    assert [figure.select_one(".lkd-plot")["aria-label"] for figure in shown] == [meta["alt"] for meta in drawn]
    assert [len(figure.select("tbody tr")) for figure in shown] == [len(meta["table"]["rows"]) for meta in drawn]


def test_the_tables_of_section_4_1_are_whole(site: Site) -> None:
    soup = site.soup("notebooks/logit_kd")
    tables = [t for t in soup.select(".cell_output table") if "effective gain" in t.select_one("thead").get_text()]
    rows = [[cell.get_text(strip=True) for cell in row.select("td")] for t in tables for row in t.select("tbody tr")]
    assert len(tables) == 2 and len(rows) == 5 * 2 * 2
    assert all(row[-1] == "2" and " ± " in row[-2] and " ± " in row[-3] for row in rows)


def test_nothing_is_loaded_from_another_host_and_links_go_where_they_should(site: Site) -> None:
    for page in site.pages:
        soup = site.soup(page)
        loaded = [tag.get("src") for tag in soup.select("script, img, iframe, source")]
        loaded += [tag.get("href") for tag in soup.select("link:not([rel=canonical])")]
        assert {urlsplit(url or "").netloc for url in loaded} <= {""}, page
        assert {urlsplit(tag["href"]).netloc for tag in soup.select("a[href]")} <= LINKED_HOSTS, page


def test_mathjax_is_loaded_where_there_are_equations_and_nowhere_else(site: Site) -> None:
    for page in site.pages:
        soup = site.soup(page)
        assert bool(soup.select(f"script[src*='{MATHJAX}']")) == bool(soup.select(".math")), page
    assert not site.soup("book/index").select(".math")


def test_the_script_of_the_losses_is_loaded_on_their_page_alone(site: Site) -> None:
    assert [page for page in site.pages if site.soup(page).select("script[src*='losses.js'][defer]")] == ["book/losses"]


def test_no_output_of_standard_error_or_of_an_exception_is_shown(site: Site) -> None:
    for page in site.pages:
        assert not site.soup(page).select(".output.stderr, .output.traceback"), page


@pytest.mark.parametrize("view", gates.VIEWS)
def test_every_page_passes_the_gates(site: Site, browser: Browser, view: str) -> None:
    window = gates.VIEWS[view]
    generated = [site.html / "search.html", site.html / "genindex.html"]
    kinds = [*(site.pages[page] for page in KINDS), *generated]
    others = [path for page, path in site.pages.items() if page not in KINDS]
    assert gates.findings(browser, kinds, window) == {}
    if view in ELSEWHERE:
        assert gates.findings(browser, others, window._replace(gates=ELSEWHERE[view])) == {}
