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
