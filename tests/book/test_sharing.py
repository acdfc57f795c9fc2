"""A page that is shared: its preview, the buttons that open it elsewhere, where it is served, and how it gets there."""

import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
import yaml
from PIL import Image
from playwright.sync_api import Browser
from throwaway import CONFIG, NAME, Book, executed

from lkd.util.files import CHECKOUT

CHAPTER = f"notebooks/{NAME}"
BASE = "https://example.org/a/b"
REPOSITORY = {"url": "https://github.com/someone/something", "branch": "main"}
WORDS = '"One" & <script>two</script>'


def made(folder: Path, **config: object) -> Book:
    book = Book.written_to(folder, **config)
    book.run(executed())
    (book.root / "notes.md").write_text(f"# Notes & `<b>`\n\n`{WORDS}`\n\nMore.\n")
    (book.root / "index.md").write_text(f"# Tiny\n\n{'word ' * 100}\n")
    status, output = book.build()
    assert status == 0, output
    return book


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return made(tmp_path_factory.mktemp("private"))


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return made(tmp_path_factory.mktemp("online"), html={"baseurl": BASE}, repository=REPOSITORY)


def tags(book: Book, page: str) -> dict[str, str]:
    """The meta tags of a page, by name."""
    found = book.page(page).select("head meta[content]")
    return {str(tag.get("property") or tag.get("name")): str(tag["content"]) for tag in found}


@pytest.mark.parametrize("which", ["private", "online"])
def test_a_page_tells_its_title_and_first_paragraph(which: str, request: pytest.FixtureRequest) -> None:
    book = request.getfixturevalue(which)
    notes, index = tags(book, "notes"), tags(book, "index")
    assert notes["og:title"] == "Notes & <b>" and notes["og:site_name"] == CONFIG["title"]
    assert notes["description"] == notes["og:description"] == WORDS
    assert index["description"].startswith("word word") and 150 < len(index["description"]) <= 200
    assert not [tag for tag in book.page("notes").select("head script") if "two" in tag.text]


def test_addresses_are_whole_or_not_there(private: Book, online: Book) -> None:
    assert not {"og:url", "og:image"} & set(tags(private, CHAPTER))
    shared = tags(online, CHAPTER)
    assert shared["og:url"] == f"{BASE}/{CHAPTER}.html" and online.html().is_file()
    picture = online.root / "_build" / "html" / shared["og:image"].removeprefix(f"{BASE}/")
    with Image.open(picture) as image:
        assert image.size == (int(shared["og:image:width"]), int(shared["og:image:height"]))


def buttons(book: Book, page: str) -> list[str]:
    links = [str(tag["href"]) for tag in book.page(page).select(".dropdown-launch-buttons a[href]")]
    return [link for link in links if urlsplit(link).netloc]


def test_chapters_open_elsewhere_where_the_repository_is_known(private: Book, online: Book) -> None:
    assert buttons(private, CHAPTER) == []
    binder, colab = buttons(online, CHAPTER)
    path = f"{CHAPTER}.ipynb"
    assert binder == f"https://mybinder.org/v2/gh/someone/something/main?urlpath=lab/tree/{path}"
    assert colab == f"https://colab.research.google.com/github/someone/something/blob/main/{path}"
    assert buttons(online, "notes") == []


@pytest.mark.slow
def test_where_colab_cannot_go_there_is_only_binder(tmp_path: Path) -> None:
    book = made(tmp_path, repository={"url": "https://gitlab.com/someone/something", "branch": "main"})
    (binder,) = buttons(book, CHAPTER)
    assert "mybinder.org/v2/gl/" in binder


@pytest.fixture
def served(private: Book, tmp_path: Path) -> Iterator[str]:
    """The address of the book below a path of a server."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").symlink_to(private.root / "_build" / "html")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a/b"
        server.shutdown()


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_the_site_works_below_a_path_and_from_a_folder(
    scheme: str, private: Book, served: str, browser: Browser
) -> None:
    base = served if scheme == "http" else private.html("x").parent.as_uri()
    page = browser.new_page()
    page.set_default_timeout(120_000)
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
    page.goto(f"{base}/index.html")
    page.goto(page.locator(f".bd-sidebar a[href$='{NAME}.html']").first.evaluate("link => link.href"))
    page.locator(".lkd-plot").scroll_into_view_if_needed()
    page.wait_for_selector(".lkd-plot[data-drawn=true] .main-svg")
    assert failed == [] and [url for url in asked if not url.startswith((f"{base}/", "data:", "blob:"))] == []
    page.goto(f"{base}/search.html?q=figure")
    page.wait_for_selector("#search-results li")
    page.close()


def test_the_workflow_builds_what_it_deploys_with_actions_that_cannot_change() -> None:
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "pages.yml").read_text())
    build, deploy = (workflow["jobs"][job]["steps"] for job in ("build", "deploy"))
    actions = [step["uses"] for step in build + deploy if "uses" in step]
    assert actions and all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in actions)
    assert "make site" in [step.get("run") for step in build]
    (upload,) = (step for step in build if "upload-pages-artifact" in step.get("uses", ""))
    assert f"Open {upload['with']['path']}/index.html" in (CHECKOUT / "Makefile").read_text()
    assert workflow["jobs"]["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}
