"""API pages and chapters lead to each other."""

from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook
from throwaway import NAME, TOC, Book, executed

from lkd.book.api_links import used_by

CODE = "import lkd\nfrom lkd import metrics\nfrom lkd.study import by_cell\n"


@pytest.mark.parametrize(
    ("code", "names"),
    [
        (CODE + "metrics.spread([1, 2]); lkd.run", ["lkd.study.by_cell", "lkd.metrics.spread", "lkd.run"]),
        ("import pandas as pd\npd.DataFrame()", []),
        ("from lkd.erf import at_size as sized\nsized(None, 3)", ["lkd.erf.at_size"]),
    ],
)
def test_what_code_names_is_told_by_its_full_name(code: str, names: list[str]) -> None:
    assert sorted(used_by(new_notebook(cells=[new_code_cell(code)]))) == sorted(names)


@pytest.mark.slow
def test_a_function_leads_to_the_chapter_that_uses_it_and_back(tmp_path: Path) -> None:
    book = Book.written_to(tmp_path)
    (book.root / "_toc.yml").write_text(yaml.safe_dump({**TOC, "chapters": [*TOC["chapters"], {"file": "api"}]}))
    directives = ".. autofunction:: lkd.metrics.spread\n.. autoclass:: lkd.metrics.Spread\n   :members:\n"
    (book.root / "api.md").write_text(f"# API\n\n```{{eval-rst}}\n{directives}```\n")
    chapter = executed()
    chapter.cells.append(new_code_cell(CODE + "metrics.spread([1, 2])"))
    nbformat.write(new_notebook(cells=chapter.cells[-1:]), book.source)
    book.run(chapter)
    status, output = book.build()
    assert status == 0, output
    assert book.page("api").select_one(f"dd a[href='notebooks/{NAME}.html']")
    assert "Spread" in book.page("api").get_text() and "Alias for field" not in book.page("api").get_text()
    assert book.page(f"notebooks/{NAME}").select_one("a[href='../api.html#lkd.metrics.spread']")
