"""The examples: clean sources, pages of the book, each run from top to bottom."""

from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat import NotebookNode

from lkd.book.runner import EXAMPLES, NOTEBOOKS, run_chapter
from lkd.util.files import CHECKOUT

NOT_RUN = "skip-execution"
SAID = {
    "distil_a_timm_model": "distilled ",
    "your_data": "train is random (train[0], ",
    "own_training_loop": "timm: validation accuracy ",
    "lightning": "validation accuracy ",
    "hugging_face_trainer": "validation accuracy ",
    "write_an_objective": "0.0 1.0",
    "erf_of_any_model": "mini_slak: half of it within ",
    "robustness_of_any_model": "'fog': ",
    "export_a_student": "README.md config.json model.safetensors recipe.json",
    "put_a_student_into_production": "student_int8.onnx: ",
}


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_examples_are_pages_of_the_book_and_no_chapters() -> None:
    toc = yaml.safe_load((CHECKOUT / "_toc.yml").read_text())
    pages = {chapter["file"] for part in toc["parts"] for chapter in part["chapters"]}
    assert {page for page in pages if "/examples/" in page} == {f"notebooks/examples/{name}" for name in EXAMPLES}
    assert EXAMPLES.keys() == SAID.keys() and not EXAMPLES.keys() & NOTEBOOKS.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_sources_are_clean_and_only_sending_to_the_hub_is_not_run(name: str) -> None:
    notebook = nbformat.read(EXAMPLES[name], 4)
    nbformat.validate(notebook)
    assert not any(cell.outputs or cell.execution_count for cell in code(notebook))
    left = [cell.source for cell in code(notebook) if NOT_RUN in cell.metadata.get("tags", [])]
    assert all(source.startswith("push(") for source in left)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_from_top_to_bottom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(run_chapter(name, {}), 4)
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert SAID[name] in "\n".join(output.get("text") or str(output.get("data", "")) for output in outputs)
