"""Graphs of networks for any batch size, made of PyTorch's own operators."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from lkd.ops import operators
from lkd.ops.geometry import same_padding


def traced(name: str, model: nn.Module, images: Tensor) -> ExportedProgram:
    """The graph of a network for a batch of any size, without paths of this machine.

    The depthwise operator of `lkd.ops` becomes a plain convolution, so that the graph does not need this package.

    Args:
        name: name of the network in error messages.
        model: in eval mode.
        images: images `(B, C, H, W)`, B at least 1.

    Raises:
        ValueError: `torch.export` cannot trace the network, or it has other operators than PyTorch's own.

    Example:
        >>> import timm, torch, lkd
        >>> from lkd.export.graph import traced
        >>> program = traced("mini_vit", timm.create_model("mini_vit").eval(), torch.zeros(1, 3, 32, 32))
        >>> program.module()(torch.zeros(5, 3, 32, 32)).shape
        torch.Size([5, 10])
    """
    two = torch.cat([images, images])[:2]  # a batch of one would be traced as a constant
    try:
        with torch.no_grad():
            program = torch.export.export(model, (two,), dynamic_shapes=({0: Dim("batch")},), strict=False)
            program = program.run_decompositions({operators.convolution: _plain})
    except Exception as error:  # tracing runs the network's own code, which can raise anything
        raise ValueError(
            f"{name} cannot be exported, torch.export fails to trace it for any batch size ({_first_line(error)}): "
            "rewrite the part of its forward that depends on the batch size or on values"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
        if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace not in ("aten", "prims"):
            raise ValueError(
                f"{name} cannot be exported, its graph has the operator {node.target}, which PyTorch alone does not "
                "have: replace it by operators of PyTorch"
            )
    return program


def _plain(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The depthwise operator as a convolution of PyTorch."""
    return F.conv2d(input, weight, bias, padding=same_padding(weight), groups=weight.shape[0])


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:200]
