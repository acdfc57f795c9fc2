"""SLaK's public code (github.com/VITA-Group/SLaK), run from a checkout with current PyTorch on a CPU.

Only missing dependencies are replaced: the CUDA extension by `nn.Conv2d`, `torch._six.inf` by `math.inf`, TensorBoard's
writer by a stub, and `torch.cuda.synchronize` by a no-op. Printed output is suppressed.
"""

import contextlib
import importlib.util
import io
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import nn


def authors_slak(folder: str) -> nn.Module:
    """SLaK-T."""
    extension = _module("depthwise_conv2d_implicit_gemm", DepthWiseConv2dImplicitGEMM=_Conv2d)
    code = _code("authors_slak", Path(folder) / "models" / "SLaK.py", extension)
    code.use_sync_bn = False
    return code.SLaK_tiny(Decom=True, width_factor=1.3, kernel_size=[51, 49, 47, 13, 5])


def authors_epoch(folder: str) -> Callable[..., dict[str, float]]:
    """`train_one_epoch` of `engine_kd.py`."""
    stubs = _module("torch._six", inf=math.inf), _module("tensorboardX", SummaryWriter=None)
    utils = _code("utils", Path(folder) / "utils.py", *stubs)
    train_one_epoch = _code("engine_kd", Path(folder) / "engine_kd.py", utils).train_one_epoch

    def quietly(*args: Any, **kwargs: Any) -> dict[str, float]:
        with mock.patch.object(torch.cuda, "synchronize"), contextlib.redirect_stdout(io.StringIO()):
            return train_one_epoch(*args, **kwargs)

    return quietly


class _Conv2d(nn.Conv2d):
    def __init__(self, channels: int, kernel: int | tuple[int, int], bias: bool):
        super().__init__(channels, channels, kernel, padding="same", groups=channels, bias=bias)


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(content)
    return module


def _code(name: str, path: Path, *needs: ModuleType) -> ModuleType:
    """Load a file as a module, with the modules that it imports registered under their names."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    code = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {each.__name__: each for each in (*needs, code)}), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        spec.loader.exec_module(code)
    return code
