"""Tables of chapters: what people see and what programs read back."""

import json

import nbformat
import pandas as pd
from bs4 import BeautifulSoup

from lkd.book.table_output import table_html
from lkd.tables import MIME_TYPE, Table, read

FRAME = pd.DataFrame({"teacher": ["a", "<script>"], "gain": [1 / 3, None], "runs": [3, 1]})


def test_a_table_is_read_back_in_full_precision() -> None:
    bundle = Table(FRAME, "gains", "Gains.")._repr_mimebundle_()
    content = json.loads(json.dumps(bundle[MIME_TYPE]))
    pd.testing.assert_frame_equal(read(content).astype(FRAME.dtypes), FRAME)
    output = nbformat.v4.new_output("display_data", bundle)
    nbformat.validate(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])]))


def test_the_page_rounds_escapes_and_offers_all_digits() -> None:
    content = Table(FRAME, "gains", "Gains & losses.", digits=1)._repr_mimebundle_()[MIME_TYPE]
    page = BeautifulSoup(table_html(content, "page-gains.csv"), "html.parser")
    assert [cell.text for cell in page.select("tbody td")] == ["a", "0.3", "3", "<script>", "–", "1"]
    assert page.figcaption is not None and page.figcaption.text == "Gains & losses."
    assert page.select_one("figure#table-gains")
    link = page.select_one("a[download='page-gains.csv']")
    assert link is not None and "0.3333333333" in str(link["href"])


def test_a_long_table_is_folded() -> None:
    long = pd.DataFrame({"x": range(60)})
    page = BeautifulSoup(table_html(Table(long, "x", "X.")._repr_mimebundle_()[MIME_TYPE], "x.csv"), "html.parser")
    assert page.details is not None and "60 rows" in page.details.summary.text


def test_a_page_shows_the_chosen_columns_with_intervals_and_offers_all() -> None:
    frame = pd.DataFrame(
        {"claim": ["a", "b"], "95 % low": [0.123, None], "95 % high": [0.456, None], "p": [0.0345, 3e-7], "n": [3, 4]}
    )
    bundle = Table(frame, "verdicts", "Verdicts.", shown=["claim", "95 % low", "95 % high", "p"])._repr_mimebundle_()
    page = BeautifulSoup(table_html(bundle[MIME_TYPE], "verdicts.csv"), "html.parser")
    for soup in (page, BeautifulSoup(bundle["text/html"], "html.parser")):
        heads = [cell.text.strip() for cell in soup.select("thead th")]
        assert heads == ["claim", "95 % interval", "p"]
        assert [cell.text for cell in soup.select("tbody td")] == ["a", "[0.12, 0.46]", "0.035", "b", "–", "3e-07"]
    link = page.select_one("a[download='verdicts.csv']")
    assert link is not None and str(link["href"]).endswith("a%2C0.123%2C0.456%2C0.0345%2C3%0Ab%2C%2C%2C3e-07%2C4%0A")
    assert len(read(bundle[MIME_TYPE]).columns) == 5


def test_one_end_of_an_interval_stays_a_number() -> None:
    content = Table(pd.DataFrame({"95 % low": [0.5]}), "t", "T.")._repr_mimebundle_()[MIME_TYPE]
    page = BeautifulSoup(table_html(content, "t.csv"), "html.parser")
    assert [cell.text for cell in page.select("th, td")] == ["95 % low", "0.50"]
