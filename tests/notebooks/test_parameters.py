"""Parameters of chapters have the types that their notebooks declare, by `lkd run` and by plain papermill."""

import ast
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from papermill.exceptions import PapermillExecutionError
from typer.testing import CliRunner

from lkd.book.parameters import KINDS, Declared, check_values
from lkd.book.runner import NOTEBOOKS, check_chapter, shared_kernel
from lkd.cli import app

WRONG: dict[str, list[Any]] = {
    "bool": ["false", "True", "", 0, 1, None, [False]],
    "int": ["2", True, 2.0, [2], {"a": 2}],
    "float": ["0.5", True, float("nan"), [0.5]],
    "str": [1, True, 0.5, "", " ", ["small"], b"small", Path("small")],
    "list[int]": ["[0]", "0", 0, [], ["0"], [True], [0.5], [None], [[0]], [0, 0], (0, 1)],
    "list[float]": ["[1]", 1, [], ["1"], [True], [float("inf")], [1, 1]],
    "list[str]": ["['a']", "a", 1, [], [1], [True], [""], [["a"]], ["a", "a"], ("a", "b")],
    "dict": ["{}", 1, [1], {1: 2}, None],
}
"""By declared type, values of other types, and lists that are empty or name something twice."""

AS_TEXT = {"bool": "no", "int": "two", "str": "3", "list[int]": "0", "list[float]": "1", "list[str]": "a", "dict": "1"}
"""Wrong command-line values, by declared type."""

GIVEN = {
    ("bool", "false"): "`-p it False` for papermill, `-p it=False` for lkd run",
    ("bool", "no"): "`-p it False` for papermill",
    ("bool", 1): "`-p it True` for papermill",
    ("str", 2012): "`-r it 2012` for papermill, `-p it=''\"'\"'2012'\"'\"''` for lkd run",
    ("str", False): "`-r it <text>` for papermill, `-p it=<text>` for lkd run",
    ("int", "2.0"): "`-p it 2` for papermill",
    ("int", "two"): "`-p it <whole number>` for papermill, `-p it=<whole number>` for lkd run",
    ("list[int]", "[0, 1]"): "`-y 'it: [0, 1]'` for papermill, `-p it='[0, 1]'` for lkd run",
    ("list[int]", "0"): "`-y 'it: [0]'` for papermill",
    ("list[int]", "0,1"): "`-y 'it: [0, 1]'` for papermill",
    ("list[int]", (0,)): "`-y 'it: [0]'` for papermill",
    ("list[int]", "[0.0]"): "`-y 'it: [0]'` for papermill",
    ("list[int]", "['0']"): "`-y 'it: [0]'` for papermill",
    ("list[int]", "[0.5, 1]"): "`-y it: [<whole number>, ...]` for papermill, `-p it=[<whole number>, ...]` for lkd",
    ("list[str]", "[5]"): "`-y 'it: [\"5\"]'` for papermill, `-p it='[\"5\"]'` for lkd run",
    ("list[str]", "a, b"): '`-y \'it: ["a", "b"]\'` for papermill',
    ("list[str]", "mini_vit"): "`-y 'it: [\"mini_vit\"]'` for papermill",
    ("dict", "{epochs: 2}"): "`-y 'it: {\"epochs\": 2}'` for papermill",
}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_parameter_of_every_chapter_is_refused_with_another_type(name: str) -> None:
    for parameter, about in check_chapter(name, {}).items():
        kind, optional = about["inferred_type_name"], about["default"] == "None"
        for value in WRONG[kind] + ([] if optional else [None]):
            with pytest.raises((TypeError, ValueError), match=f"^{parameter} "):
                check_chapter(name, {parameter: value})
        if optional:
            check_chapter(name, {parameter: None})


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_lkd_run_refuses_them_before_a_kernel_starts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(papermill, "execute_notebook", lambda *given, **named: pytest.fail("the chapter was executed"))
    for parameter, about in check_chapter(name, {}).items():
        text = AS_TEXT[about["inferred_type_name"]]
        told = CliRunner().invoke(app, ["run", name, "-p", f"{parameter}={text}"])
        assert told.exit_code == 2 and told.output.startswith(f"lkd: {parameter} must be "), told.output
        assert "for papermill, " in told.output and len(told.output.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "value"), GIVEN)
def test_the_message_says_how_to_write_what_was_meant(kind: str, value: object) -> None:
    with pytest.raises(TypeError) as refused:
        check_values({"it": Declared(kind, "0")}, {"it": value})
    assert f"got {value!r} ({type(value).__name__}): write {GIVEN[kind, value]}" in str(refused.value)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_chapter_checks_its_parameters_before_anything_else(name: str) -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOKS[name], 4).cells if cell.cell_type == "code"]
    assert "parameters" in cells[0].metadata.tags
    done = [each for each in ast.parse(cells[1].source).body if not isinstance(each, ast.Import | ast.ImportFrom)]
    assert ast.unparse(done[0]) == "check_parameters(globals())"
    assert {about["inferred_type_name"] for about in check_chapter(name, {}).values()} <= KINDS.keys()


@pytest.mark.slow
def test_plain_papermill_refuses_them_in_the_notebook(tmp_path: Path) -> None:
    tried: list[tuple[str, dict[str, Any], str]] = [
        ("logit_kd", {"published": "false"}, "TypeError: published must be True or False, got 'false' (str)"),
        ("your_own", {"data": 3}, "TypeError: data must be a text that is not empty, got 3 (int)"),
        ("erf", {}, ""),
        ("erf", {"profle": "smoke"}, "unknown parameter 'profle': did you mean 'profile'?"),
        ("vanilla_kd", {"sizes": ["64"], "seeds": [0]}, "TypeError: sizes must be a list of whole numbers or None"),
        ("kernel_size", {"sizes": ["7"], "seeds": [0], "PAPERMILL_INPUT_PATH": "in.ipynb"}, ""),
    ]
    with shared_kernel() as kernel:
        for name, parameters, message in tried:
            assert message in plain_papermill(name, parameters, tmp_path, kernel)


def plain_papermill(name: str, parameters: dict[str, Any], folder: Path, kernel: Any) -> str:
    """The error of a notebook with the parameters of a chapter and their check, none if there is no error."""
    declared = next(cell for cell in nbformat.read(NOTEBOOKS[name], 4).cells if cell.cell_type == "code")
    check = new_code_cell("from lkd.book.parameters import check_parameters\ncheck_parameters(globals())")
    specification = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=[declared, check], metadata={"kernelspec": specification}), folder / "in.ipynb")
    paths = str(folder / "in.ipynb"), str(folder / "out.ipynb")
    try:
        papermill.execute_notebook(*paths, parameters, kernel_name="python3", km=kernel, progress_bar=False)
    except PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    return ""
