"""The Python code on the pages runs."""

import re
from pathlib import Path

import pytest

from lkd.objectives import OBJECTIVES
from lkd.profiles import PROFILES

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^```yaml\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""A file that the reader is to write, its name in the first line."""
PAGES = [path for path in sorted((Path(__file__).parents[2] / "book").glob("*.md")) if BLOCK.search(path.read_text())]
OF_ONES_OWN = ("index",)
"""Pages with code for the reader's own networks and data."""


def test_pages_with_code_are_found() -> None:
    assert {"distil", "index", "profiles", "write_an_objective"} <= {page.stem for page in PAGES}


def test_the_page_of_profiles_has_a_row_for_each() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|", next(page for page in PAGES if page.stem == "profiles").read_text(), re.MULTILINE
    )
    assert sorted(rows) == sorted(PROFILES)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem not in OF_ONES_OWN], ids=lambda page: page.stem)
def test_the_code_of_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name, content in FILE.findall(page.read_text()):
        Path(name).write_text(content)
    before, blocks = set(OBJECTIVES), BLOCK.findall(page.read_text())
    names: dict[str, object] = {}
    try:
        for block in blocks:
            exec(compile(block, page.name, "exec"), names)
    finally:
        for added in set(OBJECTIVES) - before:
            del OBJECTIVES[added]
