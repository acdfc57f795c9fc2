"""Chapters: parameters are checked first, a notebook runs once, and a failure leaves the good copy alone."""

import ast
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner

from lkd.book import runner, sources
from lkd.book.runner import NOTEBOOKS, run_chapter, shared_kernel
from lkd.cli import app

PARAMETERS = """
profile: str = "smoke"  # the scale
seeds: list[int] = None  # one run for each
rate: float = 0.1  # how fast
note: str = None  # any text
flag: bool = True  # yes or no
""".strip()
BODY = """
from lkd.book.parameters import check_parameters
check_parameters(globals())
if note == "fail":
    raise ValueError("boom")
if note == "die":
    import os
    os._exit(1)
print(profile, seeds, rate)
""".strip()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A chapter of three cells, called tiny, with a machine's folder of its own."""
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    path = tmp_path / "tiny.ipynb"
    parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [new_markdown_cell("# Tiny"), parameters, new_code_cell(BODY)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    monkeypatch.setitem(NOTEBOOKS, "tiny", path)
    return path


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The parameters of each execution from now on; no kernel is started."""
    seen = []

    def execute(source: str, target: str, parameters: dict[str, Any], **settings: Any) -> None:
        seen.append(parameters)
        shutil.copyfile(source, target)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    return seen


def lkd(*words: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


# Parameters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tiny", "-p", "seds=[0]"), "lkd: unknown parameter of chapter 'tiny' 'seds': did you mean 'seeds'?"),
        (("tinny",), "lkd: unknown chapter 'tinny': did you mean 'tiny'?"),
        (("tiny", "tinny"), "lkd: unknown chapter 'tinny': did you mean 'tiny'?"),
        (("tiny", "-p", "seeds"), "-p takes NAME=VALUE, got 'seeds'"),
        (("tiny", "-p", "rate=1", "-p", "rate=2"), "-p gives 'rate' twice: leave one of them out"),
        (("tiny", "logit_kd", "-o", "out.ipynb"), "--output is for one chapter, got 2"),
        (("tiny", "-o", "README.md"), "--output must be a notebook and end in .ipynb, got README.md"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_misspelt_word_is_refused_before_anything_runs(
    words: tuple[str, ...], message: str, tiny: Path, executed: list[dict[str, Any]]
) -> None:
    code, output = lkd("run", *words)
    assert code == 2
    assert message in output.replace("│ ", "").replace(" │", "")
    assert executed == []


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"seeds": [0, 1], "rate": 1e-05, "flag": False},
        {"seeds": None, "note": 'it\'s "quoted" $HOME | `x`; two words'},
        *({"note": text} for text in ("1", "None", "[0", "[0]", "yes", "a: b", " x ", "'x'", "ü", "a=b", "~", "#")),
        {"rate": 1},
    ],
    ids=str,
)
def test_the_command_told_in_the_copy_gives_the_same_parameters_again(
    parameters: dict[str, Any], tiny: Path, executed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = nbformat.read(run_chapter("tiny", parameters), 4).metadata["lkd"]
    defaults = {row["name"]: ast.literal_eval(row["default"]) for row in record["parameters"]}
    assert {row["name"]: ast.literal_eval(row["used"]) for row in record["parameters"]} == {**defaults, **parameters}
    again = []
    monkeypatch.setattr(runner, "run_chapter", lambda name, given, **_: again.append((name, given)))
    program, *words = shlex.split(record["command"])
    assert program == "lkd"
    assert lkd(*words)[0] == 0
    changed = {name: value for name, value in parameters.items() if value != defaults[name]}
    assert again == [("tiny", changed)] and [*map(repr, again[0][1].values())] == [*map(repr, changed.values())]


# Once, and again when something changes -----------------------------------------------------------------------------


def rewritten(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    notebook.cells[0].source += "."
    nbformat.write(notebook, path)


@pytest.mark.parametrize(
    ("change", "times"),
    [
        (lambda patch, tiny: run_chapter("tiny", {}), 1),
        (lambda patch, tiny: run_chapter("tiny", {"profile": "smoke", "rate": 0.1}), 1),
        (lambda patch, tiny: run_chapter("tiny", {"rate": 0.2}), 2),
        (lambda patch, tiny: run_chapter("tiny", {}, again=True), 2),
        (lambda patch, tiny: (rewritten(tiny), run_chapter("tiny", {})), 2),
        (lambda patch, tiny: (patch.setattr(sources, "source_hash", lambda: "other"), run_chapter("tiny", {})), 2),
        (lambda patch, tiny: (run_chapter("tiny", {"rate": 0.2}), run_chapter("tiny", {})), 3),
    ],
    ids=["unchanged", "defaults given", "parameter", "again", "source", "package", "parameter and back"],
)
def test_a_chapter_is_executed_again_only_when_something_has_changed(
    change: Callable[..., object],
    times: int,
    tiny: Path,
    executed: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_chapter("tiny", {})
    change(monkeypatch, tiny)
    assert len(executed) == times


def test_a_copy_that_is_no_notebook_any_more_is_made_again(tiny: Path, executed: list[dict[str, Any]]) -> None:
    copy = run_chapter("tiny", {})
    copy.write_text(copy.read_text()[:100])
    assert run_chapter("tiny", {}) == copy
    assert len(executed) == 2
    assert nbformat.read(copy, 4).metadata["lkd"]["profile"] == "smoke"


# With a kernel ------------------------------------------------------------------------------------------------------


def test_a_chapter_runs_with_its_parameters_and_tells_them(tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "elsewhere" / "mine.ipynb"
    code, said = lkd("run", "tiny", "-p", "seeds=[3, 4]", "-p", "rate=1e-3", "-o", str(output))
    assert (code, said) == (0, str(output))
    copy = nbformat.read(output, 4)
    assert copy.cells[-1].outputs[0].text == "smoke [3, 4] 0.001\n"
    assert copy.metadata["papermill"]["exception"] is None
    record = copy.metadata["lkd"]
    rows = {row["name"]: row for row in record["parameters"]}
    assert rows["seeds"] == {
        "name": "seeds", "type": "list[int]", "default": "None", "used": "[3, 4]", "help": "one run for each"
    }  # fmt: skip
    assert rows["profile"]["used"] == rows["profile"]["default"] == "'smoke'"
    assert record["profile"] == "smoke"
    assert set(record["provenance"]) == {
        "lkd", "source", "numerics", "rules", "python", "packages", "hardware"
    }  # fmt: skip
    hidden = ["remove-input" in cell.metadata.get("tags", []) for cell in copy.cells]
    assert hidden == [False, True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize(("note", "told"), [("fail", "ValueError: boom"), ("die", "a dead kernel")])
def test_a_chapter_that_fails_leaves_the_good_copy_and_keeps_its_own_beside_it(
    note: str, told: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(papermill, "execute_notebook", lambda source, target, *_, **__: shutil.copyfile(source, target))
        copy = run_chapter("tiny", {})
    good = copy.read_bytes()
    code, output = lkd("run", "tiny", "-p", f"note={note}")
    assert code == 1
    assert f"chapter tiny stopped with {told}" in output and "tiny.failed.ipynb" in output
    assert copy.read_bytes() == good
    assert sorted(path.name for path in copy.parent.iterdir()) == ["tiny.failed.ipynb", "tiny.ipynb"]
    assert "injected-parameters" in (copy.parent / "tiny.failed.ipynb").read_text()


# Clean sources ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_source_is_clean_and_says_what_its_parameters_mean(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS[name], 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert len([cell for cell in code if "parameters" in cell.metadata.get("tags", [])]) == 1
    declared = papermill.inspect_notebook(str(NOTEBOOKS[name]))
    assert next(iter(declared)) == "profile"
    assert all(about["help"] and about["inferred_type_name"] != "None" for about in declared.values())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for cell in code:
        assert not any(isinstance(node, kinds) for node in ast.walk(ast.parse(cell.source))), cell.source


def test_there_are_chapters() -> None:
    assert "logit_kd" in NOTEBOOKS


# One kernel for several --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_chapters_that_share_a_kernel_share_its_process_and_no_variable(tiny: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(tiny, 4)
    notebook.cells.append(new_code_cell("import os\nleft = globals().get('left')\nprint(os.getpid(), left)\nleft = 1"))
    nbformat.write(notebook, tiny)
    with shared_kernel() as kernel:
        first, second = (
            run_chapter("tiny", {"rate": rate}, output=tmp_path / f"{rate}.ipynb", kernel=kernel) for rate in (1, 2)
        )
    (one, before), (other, after) = (
        nbformat.read(path, 4).cells[-1].outputs[0].text.split() for path in (first, second)
    )
    assert one == other and before == after == "None"
    assert not Path(f"/proc/{one}").exists()
