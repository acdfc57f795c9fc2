"""The ledger of claims on a page: verdicts, filters, and escaping of claims."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Page, expect
from throwaway import Book, executed, first

from lkd.book.ledger import chapter_of, ledger_html
from lkd.book.runner import NOTEBOOKS
from lkd.paper.claims import claims
from lkd.paper.verdicts import VERDICTS, Verdict
from lkd.study import Effect
from lkd.util.files import CHECKOUT

CLAIMS = list(claims().values())[:3]
MIXED = [
    Verdict(claim=claim, profile="small", word=VERDICTS[number % len(VERDICTS)])
    for number, claim in enumerate(claims().values())
]


def page(*columns: list[Verdict]) -> BeautifulSoup:
    named = {f"run {number} & <b>": column for number, column in enumerate(columns)}
    return BeautifulSoup(ledger_html(named), "html.parser")


def test_a_claim_has_a_verdict_for_every_scale_with_its_difference_and_interval() -> None:
    found = Effect(1.5, 0.25, 4.0, 3, 5)
    first = [Verdict(claim=claim, profile="small", word="not run") for claim in CLAIMS]
    second = [Verdict(claim=claim, profile="reference", word="supported", found=found, p=0.01) for claim in CLAIMS]
    soup = page(first, second)
    rows = [[cell.get_text(" ", strip=True) for cell in row.select("td")] for row in soup.select("tbody tr")]
    assert [row[0] for row in rows] == [claim.says for claim in CLAIMS]
    low, high = found.interval()
    assert rows[0][2] == "primary" and rows[0][4] == "not run"
    assert rows[0][5] == f"supported +1.50 [{low:.2f}, {high:.2f}] points p = 0.01, exploratory"
    assert soup.select_one("a[download='claims.csv']")


def test_a_difference_between_teachers_that_were_trained_once_says_so_in_place_of_its_p_value() -> None:
    found = Effect(1.5, 0.25, 4.0, 1, 5)
    between, alone = (claims()[name] for name in ("logits-convnext-over-transformers", "logits-help-at-all"))
    verdicts = [
        Verdict(claim=claim, profile="small", word="not decided", found=found, p=0.01) for claim in (between, alone)
    ]
    cells = [row.select("td")[4].get_text(" ", strip=True) for row in page(verdicts).select("tbody tr")]
    assert cells[0].endswith("points teachers trained once") and cells[1].endswith("points p = 0.01, exploratory")


def test_a_decision_unlike_the_papers_own_numbers_is_marked() -> None:
    wider, matches = claims()["logits-larger-kernels-more"], claims()["vanilla-matches-dkd"]
    dense, learned = claims()["kernels-saturate"], claims()["logits-learn-faster"]
    verdicts = [
        Verdict(claim=wider, profile="small", word="contradicted"),
        Verdict(claim=matches, profile="small", word="supported"),
        Verdict(claim=learned, profile="small", word="supported"),
        Verdict(claim=dense, profile="small", word="not decided"),
    ]
    rows = {
        row["id"]: [cell.get_text(" ", strip=True) for cell in row.select("td")]
        for row in page(verdicts).select("tbody tr")
    }
    assert rows[wider.id][4] == "contradicted unlike the papers' scale (supported)"
    assert rows[wider.id][3].startswith("+1.46 points authors' logs")
    assert [rows[claim.id][4] for claim in (matches, learned, dense)] == ["supported", "supported", "not decided"]
    assert rows[learned.id][3] == "no numbers known"


def test_words_are_no_markup() -> None:
    sly = replace(CLAIMS[0], says="<script>alert(1)</script>.")
    soup = page([Verdict(claim=sly, profile="small", word="not run")])
    assert not soup.select("script, b") and "<script>alert(1)</script>." in soup.get_text()


@pytest.mark.parametrize("chapter", sorted({chapter_of(claim) for claim in claims().values()}))
def test_what_a_claim_leads_to_stands_in_its_chapter(chapter: str) -> None:
    sources = [cell.source for cell in nbformat.read(NOTEBOOKS[chapter], 4).cells]
    assert "## Verdicts" in sources and any(source.startswith('Table(results.table, "runs"') for source in sources)


def test_decided_claims_come_first_then_confirmatory_and_primary_ones() -> None:
    every = list(claims().values())
    secondary, primary = (
        next(claim for claim in every if claim.family == family) for family in ("secondary", "primary")
    )
    third = [claim for claim in every if claim.family == "primary"][1]
    verdicts = [
        Verdict(claim=secondary, profile="small", word="not decided"),
        Verdict(claim=third, profile="small", word="supported"),
        Verdict(claim=primary, profile="small", word="contradicted", confirmatory=True),
    ]
    rows = page(verdicts).select("tbody tr")
    assert [row["id"] for row in rows] == [primary.id, third.id, secondary.id]


@pytest.fixture
def opened(tmp_path: Path, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page with nothing but the ledger and its files."""
    files = (CHECKOUT / "book" / "_static").as_uri()
    head = (
        f'<!doctype html><link rel="stylesheet" href="{files}/lkd.css"><script defer src="{files}/ledger.js"></script>'
    )
    path = tmp_path / "page.html"
    path.write_text(head + ledger_html({"small": MIXED, "reference": MIXED[1:] + MIXED[:1]}), "utf8")
    contexts = []

    def open_page(width: int = 1280, scripts: bool = True) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, java_script_enabled=scripts)
        contexts.append(context)
        page = context.new_page()
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def shown(page: Page) -> list[str]:
    rows = page.locator(".lkd-ledger tbody tr").all()
    return sorted(row.locator("a").inner_text() for row in rows if row.is_visible())


def said(*wanted: bool) -> list[str]:
    return sorted(verdict.claim.says for verdict, here in zip(MIXED, wanted, strict=True) if here)


def test_keys_alone_filter_by_verdict_paper_and_words_and_the_count_follows(opened: Callable[..., Page]) -> None:
    page = opened()
    count = page.get_by_role("status")
    assert count.inner_text() == f"{len(MIXED)} of {len(MIXED)} claims" and shown(page) == said(*[True] * len(MIXED))
    page.keyboard.press("Tab")
    page.keyboard.type("Van")
    of_paper = [verdict.claim.paper == "VanillaKD" for verdict in MIXED]
    assert shown(page) == said(*of_paper) and count.inner_text().startswith(f"{sum(of_paper)} of")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("supp")
    supported = [one and verdict.word == "supported" for one, verdict in zip(of_paper, MIXED, strict=True)]
    assert shown(page) == said(*supported) and 0 < sum(supported) < sum(of_paper)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("no such WORDS")
    assert shown(page) == [] and count.inner_text().startswith("0 of")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(count).to_have_text(f"{len(MIXED)} of {len(MIXED)} claims")
    assert shown(page) == said(*[True] * len(MIXED))
    page.get_by_label("Words").fill("better Transformers")
    words = [all(word in verdict.claim.says for word in ("better", "transformers")) for verdict in MIXED]
    assert shown(page) == said(*words) and 0 < sum(words) < len(MIXED)


def test_without_scripts_all_claims_stand_there_and_nothing_that_does_not_work(opened: Callable[..., Page]) -> None:
    page = opened(scripts=False)
    assert page.locator("form, select, input").count() == 0
    assert page.locator(".lkd-ledger tbody tr").count() == len(MIXED)


def test_on_a_phone_a_row_is_a_card_that_names_its_cells(opened: Callable[..., Page]) -> None:
    page = opened(width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator(".lkd-ledger")
    assert box.evaluate("box => box.scrollWidth <= box.clientWidth")
    heads = "cells => cells.map(cell => getComputedStyle(cell, '::before').content)"
    cells = page.locator(".lkd-ledger tbody tr").first.locator("td")
    columns = ['"Place"', '"Family"', '"Papers\' scale"', '"small"', '"reference"']
    assert cells.evaluate_all(heads) == ["none", *columns]
    page.get_by_label("Paper").select_option("VanillaKD")
    assert len(shown(page)) == sum(verdict.claim.paper == "VanillaKD" for verdict in MIXED)


@pytest.mark.slow
def test_the_directive_judges_what_this_machine_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lkd.runs.published.FOLDER", tmp_path / "published")
    book = Book.written_to(tmp_path)
    book.run(executed())
    (book.root / "notes.md").write_text("# Notes\n\n```{ledger}\n```\n")
    (book.root / "index.md").write_text("# Tiny\n\n```{headline}\n```\n")
    status, output = book.build()
    assert status == 0, output
    rows = book.page("notes").select(".lkd-ledger tbody tr")
    assert len(rows) == len(claims()) and all("not run" in row.get_text() for row in rows)
    assert "small, here" in first(book.page("notes"), ".lkd-ledger thead").get_text()
    assert book.page("notes").select_one("script[defer][src*='ledger.js']")
    assert not book.page("index").select_one("script[src*='ledger.js']")
    assert "was not run" in first(book.page("index"), ".bd-article .lkd-answer").get_text()
