"""ONNX files as PyTorch modules, run by ONNX Runtime."""

import os
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from lkd.util.checks import check_whole

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """Refuse to go on without the packages of the extra `onnx`.

    Raises:
        ImportError: names the missing packages and the remedy.
    """
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise ImportError(f"ONNX needs the packages {', '.join(missing)}: run pip install 'lkd[onnx]'")


class OnnxModel(nn.Module):
    """An ONNX file as a module: images to logits, for `lkd.engine.evaluate`, `lkd.robustness` and the like.

    Args:
        path: a file with one input, float32 `(B, C, H, W)`, and one output.
        threads: CPU threads of ONNX Runtime; 0 for as many as it takes by itself.

    Raises:
        FileNotFoundError: no such file.
        ImportError: ONNX Runtime is not installed.
        ValueError: ONNX Runtime cannot load the file, or it has several inputs.

    Example:
        >>> import tempfile, timm, torch, lkd
        >>> from lkd.export import OnnxModel, export_onnx
        >>> model = timm.create_model("mini_resnet", in_chans=1, num_classes=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = export_onnx(model, f"{folder}/student.onnx", data="digits")
        ...     OnnxModel(found.path)(torch.zeros(3, 1, 32, 32)).shape
        torch.Size([3, 10])
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 0):
        super().__init__()
        require_onnx()
        import onnxruntime

        check_whole("threads", threads, 0)
        if not Path(path).is_file():
            raise FileNotFoundError(f"no file {path}: give an ONNX file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise ValueError(f"ONNX Runtime cannot load {path}: {error}") from error
        names = [each.name for each in self.session.get_inputs()]
        if len(names) != 1:
            raise ValueError(f"{path} has the inputs {', '.join(names)}: give a file with one input, images")
        (self.input,) = names

    def forward(self, images: Tensor) -> Tensor:
        """`(B, C, H, W)` to logits, computed on the CPU, without gradients."""
        return torch.from_numpy(self.session.run(None, {self.input: images.detach().cpu().numpy()})[0])
