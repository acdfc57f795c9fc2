"""Size and cost of a network, from one forward pass without data."""

import json
from functools import cache
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from lkd.objectives import Maps
from lkd.objectives.outputs import compute_outputs
from lkd.planning.data_shape import Shape
from lkd.recipe import Recipe

_BATCH = 2
"""Batch norm needs more than one image."""


class NetworkCost(NamedTuple):
    """Size and cost of a network.

    Args:
        parameter_bytes: trainable weights.
        state_bytes: weights and buffers.
        macs: multiply-accumulates of the forward pass of one image.
        activation_bytes: saved by autograd for one image, in float32.
        maps: shapes of the last feature maps that an objective compares.
    """

    parameter_bytes: int
    state_bytes: int
    macs: int
    activation_bytes: int
    maps: tuple[tuple[int, ...], ...]


def network_cost(recipe: Recipe, shape: Shape, stages: Maps = 0) -> NetworkCost:
    """Cost of a recipe's student, found on PyTorch's device "meta", which allocates no memory.

    Args:
        stages: the feature maps in `NetworkCost.maps`.
    """
    return _count(recipe.student, json.dumps(recipe.student_args), shape, stages)


@cache
@torch.random.fork_rng(devices=[])
def _count(model: str, arguments: str, shape: Shape, stages: Maps) -> NetworkCost:
    keywords: dict[str, Any] = {"in_chans": shape.channels, "num_classes": shape.classes, **json.loads(arguments)}
    with _NoInitialWeights():
        network = timm.create_model(model, **keywords).to("meta").train()
    images = torch.zeros(_BATCH, shape.channels, *shape.size, device="meta")
    state = list(network.state_dict().values())
    saved: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        saved.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    attention = sdpa_kernel(SDPBackend.MATH)  # the counter does not know fused attention
    with saved_tensors_hooks(save, lambda tensor: tensor), attention, FlopCounterMode(display=False) as counter:
        given = compute_outputs(network, images, stages)
    for tensor in state:
        saved.pop(tensor.untyped_storage()._cdata, None)
    return NetworkCost(
        _bytes(list(network.parameters())),
        _bytes(state),
        counter.get_total_flops() // 2 // _BATCH,
        sum(tensor.untyped_storage().nbytes() for tensor in saved.values()) // _BATCH,
        tuple(tuple(each.shape[1:]) for each in given.maps),
    )


class _NoInitialWeights(TorchDispatchMode):
    """Networks keep uninitialised weights: random numbers for large ones take seconds, and do not matter here."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        random = func.overloadpacket.__name__ in ("uniform_", "normal_", "erfinv_")
        return args[0] if random else func(*args, **(kwargs or {}))


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
