"""Weights, multiply-accumulates and activation memory of a network, counted without data."""

import json
from functools import cache
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lkd.engine.outputs import outputs
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


def network_cost(recipe: Recipe, shape: Shape, stages: int = 0) -> NetworkCost:
    """Cost of a recipe's student, found by a forward pass on PyTorch's device "meta", which allocates no memory.

    Args:
        recipe: the recipe; for a teacher, its own.
        shape: shape of the data.
        stages: number of feature maps in `NetworkCost.maps`.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.planning.network_cost import network_cost
        >>> from lkd.planning.data_shape import data_shape
        >>> recipe = Recipe(data="digits", student="mini_resnet")
        >>> network_cost(recipe, data_shape(recipe).shape).parameter_bytes // 4
        19810
    """
    return _count(recipe.student, json.dumps(recipe.student_args), shape, stages)


@cache
@torch.random.fork_rng(devices=[])
def _count(model: str, arguments: str, shape: Shape, stages: int) -> NetworkCost:
    keywords: dict[str, Any] = {"in_chans": shape.channels, "num_classes": shape.classes, **json.loads(arguments)}
    network = timm.create_model(model, **keywords).to("meta")
    images = torch.zeros(_BATCH, shape.channels, *shape.size, device="meta")
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        given = outputs(network.eval(), images, stages)
    return NetworkCost(
        _bytes(list(network.parameters())),
        _bytes(list(network.state_dict().values())),
        counter.get_total_flops() // 2 // _BATCH,
        _saved_bytes(network, images) // _BATCH,
        tuple(tuple(each.shape[1:]) for each in given.maps),
    )


def _saved_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes that autograd saves in a forward pass, each storage once, without weights."""
    state = {_storage(tensor) for tensor in network.state_dict().values()}
    saved: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in state:
            saved.setdefault(_storage(tensor), tensor)
        return tensor

    with saved_tensors_hooks(save, lambda tensor: tensor):
        network.train()(images)
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
