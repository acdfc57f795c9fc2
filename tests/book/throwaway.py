"""A tiny book in a temporary folder, with one chapter that counts as executed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import plotly.graph_objects as go
import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from click.testing import CliRunner
from jupyter_book.cli.main import main as jupyter_book
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lkd.util.files import CHECKOUT

NAME = "tiny"
ALT = "Accuracy rises from 50 to 90 % </script> & over two epochs"
COLUMNS = ["epoch", "accuracy <%> on the whole of the test set", "run that the row comes from"]
ROWS: list[list[Any]] = [[1, 0.5, "a"], [2, 0.912345678, "b"], [3, None, "c|d"]]
CONFIG: dict[str, Any] = {
    "title": "Tiny",
    "author": "The lkd authors",
    "only_build_toc_files": True,
    "execute": {"execute_notebooks": "off"},
    "launch_buttons": yaml.safe_load((CHECKOUT / "_config.yml").read_text())["launch_buttons"],
    "repository": {"url": ""},
    "parse": {"myst_enable_extensions": ["amsmath", "colon_fence", "deflist", "dollarmath"]},
    "sphinx": {
        "extra_extensions": ["lkd.book"],
        "recursive_update": True,
        "config": {
            "html_context": {"default_mode": "auto"},
            "html_static_path": [str(CHECKOUT / "book" / "_static")],
            "templates_path": [str(CHECKOUT / "book" / "_templates")],
            "html_theme_options": {"navbar_persistent": []},
        },
    },
}
TOC = {"format": "jb-book", "root": "index", "chapters": [{"file": "notes"}, {"file": f"notebooks/{NAME}"}]}


@dataclass(frozen=True)
class Book:
    """The sources of the book, and the machine's folder that its chapters come from."""

    root: Path
    home: Path

    @classmethod
    def written_to(cls, folder: Path, **config: Any) -> "Book":
        book = cls(folder / "source", folder / "home")
        (book.root / "notebooks").mkdir(parents=True)
        (book.root / "_config.yml").write_text(yaml.safe_dump(CONFIG | config))
        (book.root / "_toc.yml").write_text(yaml.safe_dump(TOC))
        (book.root / "index.md").write_text("# Tiny\n\n$$\\boldsymbol{x} = \\frac{1}{2}$$\n")
        (book.root / "notes.md").write_text("# Notes\n\nNo figure here.\n")
        nbformat.write(new_notebook(cells=[new_markdown_cell("# Tiny chapter")]), book.source)
        return book

    @property
    def source(self) -> Path:
        return self.root / "notebooks" / f"{NAME}.ipynb"

    @property
    def copy(self) -> Path:
        return self.home / "chapters" / f"{NAME}.ipynb"

    def run(self, notebook: NotebookNode) -> None:
        self.copy.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, self.copy)

    def build(self, *options: str) -> tuple[int, str]:
        """The exit status and all that a strict build prints."""
        command = ["build", str(self.root), "--path-output", str(self.root), "-W", "--keep-going", *options]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LKD_HOME", str(self.home))
            result = CliRunner().invoke(jupyter_book, command)
        return result.exit_code, result.output

    def html(self, page: str = f"notebooks/{NAME}") -> Path:
        return self.root / "_build" / "html" / f"{page}.html"

    def page(self, page: str = f"notebooks/{NAME}") -> BeautifulSoup:
        return BeautifulSoup(self.html(page).read_text("utf8"), "html.parser")


def first(page: Tag, selector: str) -> Tag:
    """The first element that the selector matches; there must be one."""
    found = page.select_one(selector)
    assert found is not None, selector
    return found


def figure(**meta: Any) -> dict[str, Any]:
    """A real Plotly figure as a kernel sends it."""
    words = {"alt": ALT, "caption": "A caption < here", "table": {"columns": COLUMNS, "rows": ROWS}}
    drawn = go.Figure(go.Scatter(x=[1, 2], y=[0.5, 0.9], name="</script><b>"))
    drawn.update_layout(title="Tiny figure", xaxis_title="Epoch", height=300, width=900, meta=words | meta)
    return json.loads(drawn.to_json())


def executed(profile: str = "small", shown: dict[str, Any] | None = None) -> NotebookNode:
    """An executed copy as `lkd run` leaves it, with one figure and one changed parameter."""
    bundle = {"application/vnd.plotly.v1+json": shown or figure()}
    table = "<div><table class='dataframe'><tr>" + "<td>a wide cell</td>" * 30 + "</tr></table></div>"
    outputs = [new_output("display_data", bundle), new_output("display_data", {"text/html": table})]
    cells = [new_markdown_cell("# Tiny chapter"), new_code_cell("show()", outputs=outputs)]
    metadata = {"language_info": {"name": "python"}, "papermill": _papermill(), "lkd": _record(profile)}
    return new_notebook(cells=cells, metadata=metadata)


def _papermill() -> dict[str, Any]:
    passed = {"seeds": [0], "rate": 1e-05, "note": "x | `y` <b>"}
    return {"parameters": passed, "duration": 83.4, "start_time": "2025-11-22T00:21:00+00:00", "version": "2.7.0"}


def _record(profile: str) -> dict[str, Any]:
    rows = [
        ("seeds", "[0, 1]", "[0]", "Seeds of the runs"),
        ("rate", "0.1", "1e-05", "Learning rate | {{ x }} $a$ <i>"),
        ("note", "''", "x | `y` <b>", ""),
        ("epochs", "2", "2", "How long"),
    ]
    parameters = [dict(zip(("name", "default", "used", "help"), row, strict=True)) for row in rows]
    provenance = {
        "lkd": "0.1.0",
        "source": "0123456789ab",
        "python": "3.11.9",
        "packages": {"torch": "2.14.1", "timm": "1.0.31"},
        "hardware": "2 x Some CPU, 24 GB",
    }
    command = f"lkd run {NAME} -p seeds='[0]' -p note='x | `y` <b>'"
    return {"key": "k", "profile": profile, "parameters": parameters, "command": command, "provenance": provenance}
