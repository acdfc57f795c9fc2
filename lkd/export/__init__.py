"""Students in production: export as timm models, to ONNX or for PyTorch alone; accuracy against latency."""

from lkd.export.file_card import Exported
from lkd.export.latency import pareto
from lkd.export.onnx_file import export_onnx
from lkd.export.onnx_model import OnnxModel
from lkd.export.program_file import export_program
from lkd.export.timm_model import export, push

__all__ = ["Exported", "OnnxModel", "export", "export_onnx", "export_program", "pareto", "push"]
