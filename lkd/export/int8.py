"""Quantisation of ONNX files to int8 by ONNX Runtime."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from lkd.export.file_card import INPUT

CALIBRATION = 256
"""Training images on which the ranges of activations are measured."""

_OPERATORS = ["Add", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool", "Relu"]
_BATCH = 16


def quantise(path: Path, images: Tensor, folder: Path) -> None:
    """Replace a float32 file by its int8 form: static, QDQ, per channel.

    Weights have 7 bits (ONNX Runtime's `reduce_range`): with 8, processors without VNNI overflow in sums of products,
    which costs much accuracy there and nothing elsewhere.

    Args:
        path: the file.
        images: training images as the network takes them.
        folder: folder for temporary files.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        """Batches of the images."""

        def __init__(self) -> None:
            self.batches: Iterator[Tensor] = iter(images.split(_BATCH))

        def get_next(self) -> dict[str, object] | None:
            """The next batch, or None."""
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    prepared = folder / "prepared.onnx"
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=_OPERATORS,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
