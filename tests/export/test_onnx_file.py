"""Exported ONNX files: ONNX Runtime alone gives the network's outputs, and a file that differs is not kept."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import nn

import lkd
from lkd import Recipe
from lkd.data import load
from lkd.export import Exported, OnnxModel, export_onnx, onnx_file
from lkd.models.slak import SLaK
from lkd.runs.store import Run
from lkd.util.files import CHECKOUT

pytestmark = pytest.mark.usefixtures("one_thread")

DIGITS = {"in_chans": 1, "num_classes": 10}
SMALL_SLAK = {"dims": (8, 8), "depths": (1, 1), "kernel_sizes": (15, 7), "patch_size": 4, "layer_scale": 1.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LKD_HOME", str(tmp_path_factory.mktemp("production")))
        yield lkd.run(Recipe(data="digits", student="mini_resnet", train_images=512, lr=1e-2, batch_size=32))


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_onnx(run, tmp_path_factory.mktemp("onnx") / "student.onnx", fold=True)


def outputs(path: Path, images: torch.Tensor) -> np.ndarray:
    """The outputs of a file, by ONNX Runtime without this package."""
    return onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})[0]


def kinds(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.slow
def test_onnx_runtime_gives_the_students_outputs_for_any_batch(run: Run, exported: Exported) -> None:
    images, _ = next(load("digits").batches(load("digits").test, torch.arange(50), 50))
    with torch.no_grad():
        expected = run.student(images).numpy()
    for batch in (1, 2, 50):
        np.testing.assert_allclose(outputs(exported.path, images[:batch]), expected[:batch], rtol=1e-3, atol=1e-4)
    assert exported.comparison.images == 32 and exported.bytes == exported.path.stat().st_size
    scale = float(np.abs(expected).max())
    assert exported.comparison.difference < 1e-4 * scale < exported.comparison.tolerance < 1e-3 * scale
    assert "BatchNormalization" not in kinds(exported.path) and "Conv" in kinds(exported.path)


@pytest.mark.slow
def test_the_file_says_what_goes_in_and_what_comes_out(run: Run, exported: Exported) -> None:
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    (image,), (logits,) = model.graph.input, model.graph.output
    shapes = [[d.dim_param or d.dim_value for d in t.type.tensor_type.shape.dim] for t in (image, logits)]
    assert (image.name, logits.name, shapes) == ("images", "logits", [["batch", 1, 32, 32], ["batch", 10]])
    about = {each.key: each.value for each in model.metadata_props}
    data = load("digits")
    assert json.loads(about["classes"]) == list(data.classes) and about["run"] == run.recipe.run_id
    assert json.loads(about["mean"]) == pytest.approx(data.mean) and about["scale"] == "255"
    assert json.loads(about["std"]) == pytest.approx(data.std) and about["opset"] == "18"


@pytest.mark.slow
def test_the_file_holds_no_path_of_this_machine(exported: Exported) -> None:
    content = exported.path.read_bytes() + exported.card.read_bytes()
    assert b"site-packages" not in content and str(CHECKOUT).encode() not in content


@pytest.mark.slow
def test_the_code_of_the_card_runs_the_file(run: Run, exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    text = exported.card.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "lkd" not in code and "torch" not in code
    monkeypatch.chdir(exported.path.parent)
    names: dict[str, Any] = {}
    exec(code, names)
    data = load("digits")
    with torch.no_grad():
        black = run.student(data.normalise(torch.zeros(1, 1, 32, 32, dtype=torch.uint8)))
    np.testing.assert_allclose(names["logits"], black.numpy(), rtol=1e-3, atol=1e-4)
    assert f"on {exported.comparison.images} test images" in text


# int8 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_int8_is_small_and_its_cost_is_that_on_the_test_images(run: Run, exported: Exported, tmp_path: Path) -> None:
    found = export_onnx(run, tmp_path / "student.onnx", fold=True, int8=True, max_drop=5)
    assert found.accuracy and found.accuracy.images == 250
    assert found.accuracy.float_top1 == pytest.approx(run.metrics["test_top1"])
    data = load("digits")
    images, labels = next(data.batches(data.test, torch.arange(250), 250))
    top1 = 100 * float((outputs(found.path, images).argmax(1) == labels.numpy()).mean())
    assert found.accuracy.int8_top1 == pytest.approx(top1)
    assert found.accuracy.cost == pytest.approx(run.metrics["test_top1"] - top1)
    assert found.bytes < 0.6 * exported.bytes and "QuantizeLinear" in kinds(found.path)
    model = onnx.load(found.path)
    assert any(len(each.dims) == 1 and each.dims[0] > 1 for each in model.graph.initializer if "scale" in each.name)
    weights = [onnx.numpy_helper.to_array(each) for each in model.graph.initializer if each.data_type == 3]
    assert weights and all(np.abs(each).max() <= 64 for each in weights)
    assert {each.key: each.value for each in model.metadata_props}["precision"] == "int8"
    assert f"{found.accuracy.int8_top1:.2f} %" in found.card.read_text()


@pytest.mark.slow
def test_int8_that_costs_too_much_is_not_kept(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ruined(path: Path, *_: Any) -> None:
        model = onnx.load(path)
        for weight in model.graph.initializer:
            weight.raw_data = bytes(len(weight.raw_data)) if weight.data_type == 1 else weight.raw_data
        onnx.save(model, path)

    monkeypatch.setattr(onnx_file, "quantise", ruined)
    (tmp_path / "student.onnx").write_text("an earlier file")
    with pytest.raises(ValueError, match=r"int8 costs [\d.]+ points of top-1 on 250 .* more than max_drop=2"):
        export_onnx(run, tmp_path / "student.onnx", int8=True)
    assert [path.name for path in tmp_path.iterdir()] == ["student.onnx"]
    assert (tmp_path / "student.onnx").read_text() == "an earlier file"


# Networks -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fold", [False, True])
def test_large_kernels_become_plain_convolutions(fold: bool, tmp_path: Path) -> None:
    model = SLaK(**DIGITS, **SMALL_SLAK).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    found = export_onnx(model, tmp_path / "slak.onnx", data="digits", fold=fold)
    written = onnx.load(found.path)
    assert {each.domain for each in written.opset_import} == {""}
    convolutions = [node for node in written.graph.node if node.op_type == "Conv"]
    sides = [tuple(a.ints) for node in convolutions for a in node.attribute if a.name == "kernel_shape"]
    assert (sides.count((15, 5)), sides.count((5, 15)), sides.count((5, 5))) == (1, 1, 0 if fold else 2)
    images, _ = next(load("digits").batches(load("digits").test, torch.arange(5), 5))
    with torch.no_grad():
        np.testing.assert_allclose(outputs(found.path, images), model(images).numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mini_slak", "mini_vit", "mini_swin", "mini_cswin"])
def test_the_books_networks_are_exported(name: str, tmp_path: Path) -> None:
    model = timm.create_model(name, **DIGITS)
    found = export_onnx(model, tmp_path / "model.onnx", data="digits")
    assert found.comparison.difference < found.comparison.tolerance
    assert OnnxModel(found.path)(torch.zeros(7, 1, 32, 32)).shape == (7, 10)


# Refusals -----------------------------------------------------------------------------------------------------------


class DependsOnValues(nn.Module):
    """A network that a graph cannot express."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1024, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.flatten(1)) * (1 if images.sum() > 0 else 2)


def linear(classes: int = 10, values: int = 1024) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(values, classes))


NORM_FIRST = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2048, 10))
BROKEN = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
nn.init.constant_(BROKEN[1].weight, float("nan"))

WRONG: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ("mini_resnet", {}, TypeError, "model must be a run or an nn.Module, got str"),
    (linear(), {"data": None}, ValueError, "data is missing: a network alone has no images"),
    (linear(), {"data": "digit"}, KeyError, "unknown data set 'digit': did you mean 'digits'"),
    (linear(), {"path": "student.pt2"}, ValueError, r"path must end in .onnx, got 'student.pt2'"),
    (linear(), {"path": 3}, TypeError, "path must be the path of a file, got 3"),
    (linear(), {"path": "folder.onnx"}, IsADirectoryError, "folder.onnx is a folder: give the path of a file"),
    (linear(), {"fold": "yes"}, TypeError, "fold must be True or False, got 'yes'"),
    (linear(), {"int8": 1}, TypeError, "int8 must be True or False, got 1"),
    (linear(), {"max_drop": -1}, ValueError, "max_drop must be at least 0 and at most 100, got -1"),
    (linear().half(), {}, TypeError, r"Sequential has weights of torch.float16: export model.float\(\)"),
    (linear(classes=3), {}, ValueError, "'Sequential' has 3 classes, but digits has 10"),
    (linear(values=7), {}, ValueError, r"'Sequential' does not take the images of digits \(1 x 32 x 32\)"),
    (NORM_FIRST, {"fold": True}, ValueError, "fold_batchnorm cannot fold 1 batch norms of Sequential, the first is 0"),
    (DependsOnValues(), {}, ValueError, "DependsOnValues cannot be exported, torch.export fails to trace it"),
    (BROKEN, {}, FloatingPointError, "logits of the test images are not finite: nothing was exported"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "given", "error", "told"), WRONG, ids=[told[:40] for *_, told in WRONG])
def test_what_cannot_be_exported_is_refused_in_one_sentence(
    model: Any,
    given: dict[str, Any],
    error: type[Exception],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.onnx").mkdir()
    with pytest.raises(error, match=told) as caught:
        export_onnx(model, **{"path": "student.onnx", "data": "digits", **given})
    assert "\n" not in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["folder.onnx"]


def test_a_file_that_differs_from_the_network_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = onnx_file.write_onnx
    monkeypatch.setattr(onnx_file, "write_onnx", lambda name, _, *rest: original(name, linear().eval(), *rest))
    with pytest.raises(
        ValueError, match=r"differs from the network by up to .* more than rounding .* nothing was kept"
    ):
        export_onnx(linear(), tmp_path / "student.onnx", data="digits")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_data_of_a_run_are_those_it_was_trained_on(run: Run, tmp_path: Path) -> None:
    other = replace(load("digits"), mean=(0.5,))
    with pytest.raises(ValueError, match=rf"data 'digits' has mean \[0.5\], but run {run.recipe.run_id} was trained"):
        export_onnx(run, tmp_path / "student.onnx", data=other)


@pytest.mark.parametrize("call", [lambda: export_onnx(linear(), "a.onnx", data="digits"), lambda: OnnxModel("a.onnx")])
def test_without_its_packages_onnx_names_the_extra(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lkd.export.onnx_model.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ImportError, match=r"ONNX needs the packages onnxscript: run pip install 'lkd\[onnx\]'"):
        call()


def test_a_file_that_is_no_onnx_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        OnnxModel(tmp_path / "nothing.onnx")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(ValueError, match="ONNX Runtime cannot load"):
        OnnxModel(tmp_path / "text.onnx")
