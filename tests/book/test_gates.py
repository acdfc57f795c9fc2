"""Each gate passes a good page and stops a page with its kind of fault."""

import random
from pathlib import Path

import gates
import pytest
from playwright.sync_api import Browser

from lkd.book.offline import MATHJAX, PLOTLY

GOOD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Good</title>
<link rel="stylesheet" href="good.css">
<style>
.lkd-scroll { max-width: 10rem; overflow-x: auto; }
.wide { width: 40rem; }
.plain:focus { outline: none; }
@media (scripting: none) { details::details-content { block-size: auto; content-visibility: visible; } }
</style>
</head>
<body>
<a href="#main-content">Skip to main content</a>
<header><button>Theme</button></header>
<nav aria-label="Main"><a href="other.html#there">Other page</a></nav>
<main id="main-content">
<h1>Good</h1>
<figure class="lkd-figure"><div class="lkd-plot" role="group" aria-label="A line that rises">drawn</div>
<details><summary>Data</summary><table><tr><td>1</td></tr></table></details></figure>
<div hidden><figure class="lkd-figure">Scripts show this.</figure></div>
<p style="color: #555">Enough contrast in light.</p>
<div class="lkd-scroll" tabindex="0" role="region" aria-label="Data"><div class="wide">Wide data</div></div>
<details><summary>More</summary><a href="https://example.org/">Another host</a></details>
</main>
<script>document.querySelector(".lkd-plot").dataset.drawn = "true";</script>
</body>
</html>
"""
DARK = "@media (prefers-color-scheme: dark) { html { background: #111 } }"
END = "</body>"
NOISE = random.Random(0).randbytes(gates.LIMIT)

BROKEN = [
    ("figures", "light", ".dataset.drawn", ".dataset.other", "not drawn: A line that rises"),
    ("numbers", "no scripts", "<table>", "<table hidden>", "no numbers: drawn"),
    ("numbers", "no scripts", "content-visibility: visible", "", "no numbers: drawn"),
    ("width", "phone", "overflow-x: auto", "", "wide in a window of 390 px"),
    ("accessibility", "light", "#555", "#bbb", "color-contrast: <p"),
    (
        "contrast",
        "dark",
        "</style>",
        "@media (prefers-color-scheme: dark) { body { background: #111 } }</style>",
        "c",
    ),
    ("accessibility", "light", ' lang="en"', "", "html-has-lang: <html"),
    ("accessibility", "light", "<button>Theme</button>", "<button></button>", "button-name: <button"),
    ("keyboard", "light", '"#main-content">Skip', '"other.html">Skip', "first stop is no skip link"),
    ("keyboard", "light", "<button>", '<button class="plain">', "focus not seen: <button"),
    ("keyboard", "light", "<button>", '<button onkeydown="event.preventDefault()">', "does not get past <button"),
    (
        "keyboard",
        "light",
        '"other.html#there"',
        '"other.html#there" tabindex="-1"',
        'not reached by Tab: <a href="other.h',
    ),
    ("keyboard", "light", 'tabindex="0"', 'tabindex="-1"', 'not reached by Tab: <div class="lkd-scroll"'),
    ("keyboard", "light", "<h1>", '<h1 tabindex="1">', "first stop is no skip link"),
    ("links", "light", "other.html#there", "gone.html", "gone.html"),
    ("links", "light", "other.html#there", "other.html#gone", "other.html#gone"),
    ("links", "light", "#main-content", "#content", "page.html#content"),
    ("weight", "light", END, f'<img src="noise.png" alt="">{END}', "of which noise.png"),
    ("requests", "light", "good.css", "gone.css", "gone.css"),
    ("requests", "light", "good.css", "https://example.org/good.css", "https://example.org/good.css"),
    ("errors", "light", END, f"<script>console.error('no colours')</script>{END}", "error: no colours"),
    ("errors", "light", END, f"<script>setTimeout(() => {{ throw Error('no shape'); }})</script>{END}", "no shape"),
]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "good.css").write_text("body { margin: 1rem; }")
    (tmp_path / "other.html").write_text('<!doctype html><title>Other</title><p id="there">Here</p>')
    (tmp_path / "noise.png").write_bytes(NOISE)
    (tmp_path / "page.html").write_text(GOOD)
    return tmp_path / "page.html"


@pytest.mark.parametrize("view", gates.VIEWS)
def test_a_good_page_passes_in_every_view(page: Path, browser: Browser, view: str) -> None:
    assert gates.findings(browser, [page], gates.VIEWS[view]) == {}


@pytest.mark.parametrize(("gate", "view", "good", "bad", "finding"), BROKEN)
def test_a_gate_stops_what_it_is_for(
    page: Path,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
    gate: str,
    view: str,
    good: str,
    bad: str,
    finding: str,
) -> None:
    monkeypatch.setattr(gates, "PATIENCE", 3000)
    page.write_text(GOOD.replace(good, bad))
    only = gates.VIEWS[view]._replace(gates=[getattr(gates, gate)])
    (findings,) = gates.findings(browser, [page], only).values()
    assert any(finding in found for found in findings), findings


@pytest.mark.parametrize(
    ("name", "content"), [("spaces.js", b" " * 2 * gates.LIMIT), (PLOTLY, NOISE), (MATHJAX, NOISE)]
)
def test_a_page_may_load_what_compresses_and_the_two_large_scripts(
    page: Path, browser: Browser, name: str, content: bytes
) -> None:
    (page.parent / name).write_bytes(content)
    page.write_text(GOOD.replace(END, f'<script src="{name}"></script>{END}'))
    assert gates.findings(browser, [page], gates.VIEWS["light"]._replace(gates=[gates.weight])) == {}
