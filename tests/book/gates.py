"""Quality gates of the site, checked in a browser without network.

A gate takes a visit to a page and returns its findings.
"""

import gzip
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import url2pathname

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, TimeoutError

from lkd.book.offline import MATHJAX, PLOTLY

LIMIT = 400_000
"""Bytes that the first visit to a page may transfer, Plotly and MathJax apart, texts compressed as hosts send them."""

PATIENCE = 60_000
"""Milliseconds in which a figure is drawn, on a machine that is busy."""

_FOREIGN = re.compile(r"^(?!file:|data:|blob:)")
_AXE = {"preload": False, "resultTypes": ["violations"]}
"""It need not fetch the style sheets, which pages of the file system may not."""

_UNSEEN_BY_AXE = {"exclude": [["tbody tr:nth-child(n + 11)"], [".lkd-plot svg"]]}
"""The later rows of tables look like the first ten, and take most of the time; axe cannot tell the colours of SVG,
which `tests/figures/test_style.py` checks."""

_GRAVE = ("serious", "critical")
_TEXTS = (".css", ".html", ".js", ".svg")
_KEYBOARD = (Path(__file__).parent / "keyboard.js").read_text()


class Visit(NamedTuple):
    """An opened page with all details unfolded, and the errors and requests while it opened."""

    page: Page
    errors: list[str]
    requested: list[str]
    failed: list[str]


Gate = Callable[[Visit], list[str]]


@contextmanager
def visit(context: BrowserContext, path: Path) -> Iterator[Visit]:
    """Open a page of the site in a new tab."""
    page = context.new_page()
    found = Visit(page, [], [], [])
    page.on("console", lambda message: found.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    page.on("request", lambda request: found.requested.append(request.url))
    page.on("requestfailed", lambda request: found.failed.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    yield found
    page.close()


def figures(visit: Visit) -> list[str]:
    """Figures that are not drawn when one scrolls to them."""
    plots = visit.page.locator(".lkd-plot").all()
    return [f"figure not drawn: {plot.get_attribute('aria-label')}" for plot in plots if not _is_drawn(plot)]


def numbers(visit: Visit) -> list[str]:
    """Figures without a visible table of their numbers where scripts do not run, even when it is folded."""
    visit.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = false; })")
    shown = visit.page.locator(".lkd-figure").filter(visible=True).all()
    return [f"no numbers: {each.inner_text()[:80]}" for each in shown if not each.locator("table").is_visible()]


def width(visit: Visit) -> list[str]:
    """A page that is wider than its window."""
    window = (visit.page.viewport_size or {})["width"]
    page = visit.page.evaluate("document.documentElement.scrollWidth")
    return [f"{page} px wide in a window of {window} px"] if page > window else []


def accessibility(visit: Visit) -> list[str]:
    """Violations that axe-core finds serious or critical."""
    return _violations(visit, _AXE)


def contrast(visit: Visit) -> list[str]:
    """Text with too little contrast, the one violation that depends on the colour scheme."""
    return _violations(visit, {**_AXE, "runOnly": ["color-contrast"]})


def _violations(visit: Visit, options: dict[str, Any]) -> list[str]:
    violations = Axe().run(visit.page, _UNSEEN_BY_AXE, options).response["violations"]
    grave = [violation for violation in violations if violation["impact"] in _GRAVE]
    return [f"{violation['id']}: {node['html'][:200]}" for violation in grave for node in violation["nodes"]]


def keyboard(visit: Visit) -> list[str]:
    """A walk by Tab that does not begin with the skip link, keep to the page's order, show itself and reach it all."""
    visit.page.evaluate("scrollTo(0, 0)")
    visit.page.evaluate(_KEYBOARD)
    stops, after = _walk(visit.page)
    findings = [f"{fault}: {stop['name']}" for stop in stops for fault in stop["faults"]]
    findings += [f"not reached by Tab: {name}" for name in visit.page.evaluate("walk.missed()")]
    if stops and 'href="#main-content"' not in stops[0]["name"]:
        findings.append(f"first stop is no skip link: {stops[0]['name']}")
    if after and after["place"] != stops[0]["place"]:
        findings.append(f"focus does not get past {after['name']}")
    return findings


def links(visit: Visit) -> list[str]:
    """Links into the site that lead to no file, or to no such place in it."""
    targets = visit.page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
    return [f"broken link: {target}" for target in targets if not _leads_somewhere(target)]


def weight(visit: Visit) -> list[str]:
    """A page with a first visit of more than `LIMIT` bytes."""
    files = {_file(url) for url in visit.requested if url.startswith("file:")}
    sizes = {file.name: _transferred(file) for file in files if file.name not in (PLOTLY, MATHJAX)}
    heaviest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
    told = ", ".join(f"{name} {sizes[name]:,}" for name in heaviest)
    return [f"{sum(sizes.values()):,} bytes, of which {told}"] if sum(sizes.values()) > LIMIT else []


def requests(visit: Visit) -> list[str]:
    """Files that are not there, and requests to other hosts."""
    return [f"failed request: {url}" for url in visit.failed]


def errors(visit: Visit) -> list[str]:
    """Errors on the console or not caught by a script."""
    return [f"error: {error}" for error in visit.errors]


class View(NamedTuple):
    """A window that pages are seen in, and the gates that they pass there, in this order."""

    width: int
    scheme: Literal["light", "dark"]
    touch: bool
    gates: Sequence[Gate]
    scripts: bool = True


VIEWS = {
    "light": View(1280, "light", False, (figures, accessibility, keyboard, links, weight, requests, errors)),
    "dark": View(1280, "dark", False, (figures, contrast, requests, errors)),
    "phone": View(390, "light", True, (figures, width, requests, errors)),
    "no scripts": View(1280, "light", False, (numbers,), scripts=False),
}


@contextmanager
def window(browser: Browser, view: View) -> Iterator[BrowserContext]:
    """A window of the browser that is cut off the network."""
    context = browser.new_context(
        viewport={"width": view.width, "height": 900},
        color_scheme=view.scheme,
        has_touch=view.touch,
        is_mobile=view.touch,
        reduced_motion="reduce",
        java_script_enabled=view.scripts,
    )
    context.set_default_navigation_timeout(10 * PATIENCE)
    context.route(_FOREIGN, lambda route: route.abort())
    yield context
    context.close()


def findings(browser: Browser, pages: Iterable[Path], view: View) -> dict[str, list[str]]:
    """What the gates of a view find, by page."""
    with window(browser, view) as context:
        return {
            f"{page.parent.name}/{page.stem}": found for page in pages if (found := _found(context, page, view.gates))
        }


def _found(context: BrowserContext, page: Path, gates: Sequence[Gate]) -> list[str]:
    with visit(context, page) as opened:
        return [finding for gate in gates for finding in gate(opened)]


def _is_drawn(plot: Locator) -> bool:
    """Whether a figure is drawn soon after one scrolls to it."""
    with suppress(TimeoutError):
        plot.scroll_into_view_if_needed(timeout=PATIENCE)
        plot.and_(plot.page.locator("[data-drawn]")).wait_for(timeout=PATIENCE)
        return True
    return False


def _walk(page: Page) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Where Tab leads, one stop after the other; and the stop that it comes back to, unless it leaves the page."""
    stops: dict[int, dict[str, Any]] = {}
    while (stop := _tab(page)) and stop["place"] not in stops:
        stops[stop["place"]] = stop
    return list(stops.values()), stop


def _tab(page: Page) -> dict[str, Any] | None:
    page.keyboard.press("Tab")
    return page.evaluate("walk.stop()")


def _leads_somewhere(target: str) -> bool:
    """Whether a link within the site leads to a file and a place in it; one that leaves the site does.

    A fragment `name=value` is the choice of a form on the page, which needs a field of this name.
    """
    url = urlsplit(target)
    if url.scheme != "file":
        return True
    file = _file(target)
    if file.is_file() and "=" in url.fragment:
        return all(f'name="{name}"' in file.read_text("utf8") for name in parse_qs(url.fragment))
    return file.is_file() and (not url.fragment or unquote(url.fragment) in _places(file))


@cache
def _places(file: Path) -> frozenset[str]:
    """All ids of a page."""
    return frozenset(re.findall(r'\bid="([^"]+)"', file.read_text("utf8")))


@cache
def _transferred(file: Path) -> int:
    """The bytes of a file as a static host sends it: a text compressed, a font or an image as it is."""
    content = file.read_bytes()
    return len(gzip.compress(content, compresslevel=6) if file.suffix in _TEXTS else content)


def _file(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))
