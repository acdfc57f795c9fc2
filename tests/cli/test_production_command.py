"""`lkd export` and `lkd pareto`: files that load, and the numbers that the library gives."""

from pathlib import Path

import pytest
import torch
from calling import lkd, save, told

from lkd import Recipe
from lkd.export import OnnxModel, latency
from lkd.models import load_model
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = Recipe(data="digits", student="mini_resnet")


@pytest.fixture
def run_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return save(Store(), RECIPE)


@pytest.mark.slow
def test_a_run_is_exported_to_a_file_named_after_what_was_typed(run_id: str) -> None:
    found = told("export", run_id[:8], "--fold")
    assert found["path"] == f"{run_id[:8]}.onnx" and found["difference"] < found["tolerance"]
    assert sorted(path.name for path in Path().iterdir()) == [f"{run_id[:8]}.md", f"{run_id[:8]}.onnx"]
    images = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(OnnxModel(found["path"])(images), Store().by_id(run_id).student(images))


@pytest.mark.slow
def test_a_program_is_told_in_words(run_id: str) -> None:
    answer = lkd("export", run_id, "--format", "torch-export", "-o", "student.pt2")
    assert answer.exit_code == 0 and "student.pt2: 0." in answer.stdout
    assert "largest difference of the logits on 32 test images: " in answer.stdout and "(tolerance " in answer.stdout


def test_weights_are_written_in_timms_format(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lkd.export.timm_model.card", lambda *_: "card")
    found = told("export", run_id, "--format", "safetensors", "-o", "student")
    assert found["difference"] < 1e-6 and found["images"] == 32
    state = load_model(Path("student")).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in Store().by_id(run_id).student.state_dict().items())


def test_latency_is_a_table_json_and_a_page(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "find_spec", lambda _: None)
    other = save(Store(), Recipe(data="digits", student="mini_convnext_nano"), top1=70.0)
    answer = lkd("pareto", run_id, other, "mini_vit", "--repeats", "1", "-o", "figure.html")
    assert answer.exit_code == 0 and f"mini_convnext_nano ({other[:8]})" in answer.stdout.splitlines()[-1]
    assert "–" in next(line for line in answer.stdout.splitlines() if "mini_vit" in line)
    assert "1 CPU thread(s)" in answer.stdout and "frontier, PyTorch, batch 32: " in answer.stdout
    assert "plotly" in Path("figure.html").read_text()
    rows = told("pareto", run_id, "--repeats", "1")["rows"]
    assert [(row["batch"], row["top1"], row["frontier"]) for row in rows] == [(1, 50.0, True), (32, 50.0, True)]
