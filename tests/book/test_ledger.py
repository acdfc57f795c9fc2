"""The ledger of claims on a page: what was judged, and that a claim's words are no markup."""

from dataclasses import replace
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from throwaway import Book, executed

from lkd.book.ledger import ledger_html
from lkd.paper.claims import Verdict, claims
from lkd.study import Effect

CLAIMS = list(claims().values())[:3]


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
    assert rows[0][2] == "not run" and rows[0][3] == f"supported +1.50 [{low:.2f}, {high:.2f}] points"
    assert "3 not run" in soup.p.text and "3 supported" in soup.p.text
    assert soup.select_one("a[download='claims.csv']")


def test_words_are_no_markup() -> None:
    sly = replace(CLAIMS[0], says="<script>alert(1)</script>.")
    soup = page([Verdict(claim=sly, profile="small", word="not run")])
    assert not soup.select("script, b") and "<script>alert(1)</script>." in soup.get_text()


@pytest.mark.slow
def test_the_directive_judges_what_this_machine_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lkd.records.FOLDER", tmp_path / "published")
    book = Book.written_to(tmp_path)
    book.run(executed())
    (book.root / "notes.md").write_text("# Notes\n\n```{ledger}\n```\n")
    status, output = book.build()
    assert status == 0, output
    rows = book.page("notes").select(".lkd-ledger tbody tr")
    assert len(rows) == len(claims()) and all("not run" in row.get_text() for row in rows)
    assert "small, here" in book.page("notes").select_one(".lkd-ledger thead").get_text()
