"""Normalisations of images, and networks with one of their own."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lkd.util.checks import check_number


class Normalization(NamedTuple):
    """Mean and standard deviation of each channel, for images in [0, 1]."""

    mean: Sequence[float]
    std: Sequence[float]

    def conversion(self, other: "Normalization") -> tuple[Tensor, Tensor]:
        """Factor and summand `(C, 1, 1)` that turn images with this normalisation into images with another one.

        Example:
            >>> from lkd.models.normalization import Normalization
            >>> scale, shift = Normalization((0.0,), (1.0,)).conversion(Normalization((0.5,), (0.25,)))
            >>> scale.item(), shift.item()
            (4.0, -2.0)
        """
        ours, theirs = (map(torch.tensor, each) for each in (self, other))
        (mean, std), (other_mean, other_std) = ours, theirs
        return (std / other_std)[:, None, None], ((mean - other_mean) / other_std)[:, None, None]


class Normalized(nn.Module):
    """A network with the normalisation that it was trained with.

    A network that is given as a module gets images with the normalisation of the data. This wrapper names another one:
    the network then gets the same images with its own mean and standard deviation.

    Args:
        model: images `(B, C, H, W)` to logits `(B, classes)`.
        mean, std: one value per channel, for images in [0, 1]; `timm.data.resolve_data_config(model=model)` has those
            of a timm model.

    Raises:
        TypeError: a model that is not a module, or values that are not numbers.
        ValueError: no value, another number of values in `std` than in `mean`, or a `std` that is not above 0.

    Example:
        >>> import timm, torch
        >>> from lkd.models import Normalized
        >>> model = timm.create_model("mini_resnet", num_classes=10).eval()
        >>> teacher = Normalized(model, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        >>> teacher(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be an nn.Module, got a {type(model).__name__}")
        for name, values in (("mean", mean), ("std", std)):
            for place, value in enumerate(values):
                check_number(f"{name}[{place}]", value, 0 if name == "std" else -math.inf, above=name == "std")
        if not mean or len(mean) != len(std):
            raise ValueError(f"mean and std must have a value for each channel, got {len(mean)} and {len(std)}")
        self.model, self.own = model, Normalization(tuple(mean), tuple(std))
        unit = Normalization((0.0,) * len(mean), (1.0,) * len(mean))
        scale, shift = unit.conversion(self.own)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, images: Tensor) -> Tensor:
        """Logits for images in [0, 1], or with the normalisation given to `expect`."""
        return self.model(self.convert(images))

    def convert(self, images: Tensor) -> Tensor:
        """The images with the network's own normalisation, in their dtype."""
        return images * self.scale.to(images) + self.shift.to(images)

    def expect(self, given: Normalization) -> None:
        """Take images with this normalisation from now on, instead of images in [0, 1].

        Raises:
            ValueError: another number of channels.
        """
        if len(given.mean) != len(self.own.mean):
            raise ValueError(
                f"the normalisation of a {type(self.model).__name__} is for {len(self.own.mean)} channels, the images "
                f"have {len(given.mean)}: give images of {len(self.own.mean)} channels, or one value per channel"
            )
        scale, shift = given.conversion(self.own)
        self.scale, self.shift = scale.to(self.scale), shift.to(self.shift)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network in a `Normalized`; any other network unchanged."""
    return model.model if isinstance(model, Normalized) else model


def is_normalized(model: nn.Module) -> bool:
    """Whether a network is or contains a `Normalized` one."""
    return any(isinstance(module, Normalized) for module in model.modules())


def expect_normalization(model: nn.Module, given: Normalization) -> nn.Module:
    """The network, changed in place: every `Normalized` in it takes images with this normalisation."""
    for module in model.modules():
        if isinstance(module, Normalized):
            module.expect(given)
    return model
