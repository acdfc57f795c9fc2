"""Pages made from the published records: made anew when these change, and only then."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lkd.book import sources


def test_a_page_of_the_records_is_made_anew_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PUBLISHED", tmp_path)
    environment: Any = SimpleNamespace(docname="costs", metadata={"costs": {}, "plain": {}})
    app: Any = SimpleNamespace()
    sources.note_sources(environment)
    assert sources.outdated_pages(app, environment, set(), set(), set()) == []
    (tmp_path / "small.zip").write_bytes(b"runs")
    assert sources.outdated_pages(app, environment, set(), set(), set()) == ["costs"]
