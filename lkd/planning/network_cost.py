"""What a network takes, counted on one without data: weights, work, and what its backward pass needs."""

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
    """What a network takes.

    Args:
        parameter_bytes: of the weights that are trained.
        state_bytes: of all that is kept of it, buffers too.
        macs: multiply-accumulates of an image's forward pass.
        activation_bytes: that autograd keeps of an image for the backward pass, in float32.
        maps: shape of each of the last feature maps that an objective compares.
    """

    parameter_bytes: int
    state_bytes: int
    macs: int
    activation_bytes: int
    maps: tuple[tuple[int, ...], ...]


def network_cost(recipe: Recipe, shape: Shape, stages: int = 0) -> NetworkCost:
    """What the student of a recipe takes, on images of a shape.

    It is run on PyTorch's device "meta", where tensors have shapes and no content, so that large networks cost little.

    Args:
        recipe: whose student; of a teacher, its own recipe.
        shape: of the data.
        stages: how many feature maps are asked for.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.planning.network_cost import network_cost
        >>> from lkd.planning.data_shape import data_shape
        >>> recipe = Recipe(data="digits", student="mini_resnet")
        >>> network_cost(recipe, data_shape(recipe).shape).parameter_bytes // 4
        19810
    """
    return _anatomy(recipe.student, json.dumps(recipe.student_args), shape, stages)


@cache
@torch.random.fork_rng(devices=[])
def _anatomy(model: str, arguments: str, shape: Shape, stages: int) -> NetworkCost:
    made: dict[str, Any] = {"in_chans": shape.channels, "num_classes": shape.classes, **json.loads(arguments)}
    network = timm.create_model(model, **made).to("meta")
    images = torch.zeros(_BATCH, shape.channels, *shape.size, device="meta")
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        given = outputs(network.eval(), images, stages)
    return NetworkCost(
        _bytes(list(network.parameters())),
        _bytes(list(network.state_dict().values())),
        counter.get_total_flops() // 2 // _BATCH,
        _kept_for_backward(network, images) // _BATCH,
        tuple(tuple(each.shape[1:]) for each in given.maps),
    )


def _kept_for_backward(network: nn.Module, images: Tensor) -> int:
    """Bytes that autograd keeps of a forward pass, each piece of memory once, weights left out."""
    own = {_memory(tensor) for tensor in network.state_dict().values()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _memory(tensor) not in own:
            kept.setdefault(_memory(tensor), tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(images)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
