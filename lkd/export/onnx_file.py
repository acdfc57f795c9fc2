"""Export of networks to ONNX, in float32 or int8."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lkd.data import DataSet
from lkd.engine import evaluate
from lkd.export.difference import compare
from lkd.export.file_card import INPUT, OUTPUT, Accuracy, Exported, metadata, write_card
from lkd.export.graph import traced
from lkd.export.int8 import CALIBRATION, quantise
from lkd.export.onnx_model import OnnxModel, require_onnx
from lkd.export.quiet import quiet
from lkd.export.subject import COMPARED, Subject, subject
from lkd.runs.store import Run
from lkd.util.checks import check_flag, check_number
from lkd.util.files import file_path, replacing
from lkd.util.temporary import temporary_folder

OPSET = 18
"""The opset that PyTorch's exporter writes without conversion."""

_LOADING = """import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession({name})


def logits_of(images):
    return session.run(None, {{"{input}": images}})[0]"""


def export_onnx(
    model: Run | nn.Module,
    path: str | os.PathLike[str],
    *,
    data: DataSet | str | None = None,
    fold: bool = False,
    int8: bool = False,
    max_drop: float = 2.0,
) -> Exported:
    """Export a network to ONNX, with its metadata and a card beside it.

    The file takes normalised images named "images", `(batch, C, H, W)`, and gives "logits". ONNX Runtime's outputs are
    compared with the network's on 32 test images before the file is kept.

    With `int8`, ONNX Runtime quantises weights (per channel, to 7 bits, so that no processor's 8-bit products overflow)
    and activations, calibrated on 256 training images. Float32 and int8 are then evaluated on the whole test split.

    Args:
        model: a run with weights, or a trained network.
        path: the file to write, ending in ".onnx"; an existing file is replaced.
        data: the images that the network takes, a name or a data set; by default those of the run.
        fold: fold batch norms into convolutions; see `lkd.models.fold_batchnorm`.
        int8: quantise to int8.
        max_drop: largest loss of top-1 by int8 at which the file is kept, in percentage points.

    Raises:
        FileNotFoundError: a run without weights.
        FloatingPointError: logits that are not finite.
        ImportError: a package of the extra `onnx` is missing.
        TypeError, ValueError: a network, data or path that does not fit, a network that cannot be traced or folded, a
            file that differs from the network, or int8 that costs more than `max_drop`.

    Example:
        >>> import tempfile, timm, lkd
        >>> from lkd.export import export_onnx
        >>> model = timm.create_model("mini_resnet", in_chans=1, num_classes=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = export_onnx(model, f"{folder}/student.onnx", data="digits", fold=True)
        >>> found.comparison.difference < found.comparison.tolerance
        True
    """
    path = file_path(path, ".onnx")
    for name, flag in (("fold", fold), ("int8", int8)):
        check_flag(name, flag)
    check_number("max_drop", max_drop, 0, 100)
    require_onnx()
    exported = subject(model, data, fold)
    images = exported.images("test", COMPARED)
    about = metadata(exported, fold) | {"opset": str(OPSET), "precision": "int8" if int8 else "float32"}
    accuracy = None
    with replacing(path) as temporary:
        write_onnx(exported.name, exported.model, images, temporary, about)
        comparison = compare(OnnxModel(temporary), exported.model, images)
        if int8:
            accuracy = _quantise(exported, temporary, about, max_drop)
    found = Exported(path, path.with_suffix(".md"), path.stat().st_size, comparison, accuracy)
    if accuracy:
        about["int8"] = f"static, QDQ, per channel, calibrated on {CALIBRATION} training images by ONNX Runtime"
    write_card(found, about, _LOADING.format(name=json.dumps(path.name), input=INPUT))
    return found


def write_onnx(name: str, model: nn.Module, images: Tensor, path: Path, about: Mapping[str, str]) -> None:
    """Write a network as an ONNX file in float32.

    Args:
        name: name of the network in error messages.
        model: in eval mode.
        images: some images that it takes.
        path: the file.
        about: metadata of the file.
    """
    program = traced(name, model, images)
    with quiet():
        made: Any = torch.onnx.export(
            program, (), dynamo=True, input_names=[INPUT], output_names=[OUTPUT], opset_version=OPSET, verbose=False
        )
    made.save(path, external_data=False)
    _annotate(path, about)


def _quantise(exported: Subject, path: Path, about: Mapping[str, str], max_drop: float) -> Accuracy:
    """Replace a float32 file by its int8 form, unless that costs too much accuracy."""
    data = exported.data
    top1 = evaluate(OnnxModel(path), data, data.test)["top1"]
    with temporary_folder() as folder, quiet():
        quantise(path, exported.images("train", CALIBRATION), folder)
    _annotate(path, about)
    found = Accuracy(len(data.test), top1, evaluate(OnnxModel(path), data, data.test)["top1"])
    if found.cost > max_drop:
        raise ValueError(
            f"int8 costs {found.cost:.2f} points of top-1 on {found.images:,} test images of {data.name} (float32 "
            f"{found.float_top1:.2f} %, int8 {found.int8_top1:.2f} %), more than max_drop={max_drop:g}: nothing was "
            "kept; export float32, or allow a larger drop"
        )
    return found


def _annotate(path: Path, about: Mapping[str, str]) -> None:
    """Add metadata to a file and name its batch dimension; remove traces of this machine's source files."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer, *model.functions, graph):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    for tensor in (graph.input[0], graph.output[0]):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(model, dict(about))
    onnx.save(model, path)
