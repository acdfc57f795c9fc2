"""Several teachers as one network, and networks with a normalisation of their own."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lkd.util.checks import check_number


class Normalized(nn.Module):
    """A network with the normalisation that it was trained with.

    A teacher that is a module gets the student's images with the normalisation of the data. This wrapper names another
    one: the teacher then gets the same images with its own mean and standard deviation.

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
        _check_module("model", model)
        for name, values in (("mean", mean), ("std", std)):
            for place, value in enumerate(values):
                check_number(f"{name}[{place}]", value, 0 if name == "std" else -math.inf, above=name == "std")
        if not mean or len(mean) != len(std):
            raise ValueError(f"mean and std must have a value for each channel, got {len(mean)} and {len(std)}")
        self.model, self.mean, self.std = model, tuple(mean), tuple(std)
        self.register_buffer("scale", torch.empty(len(mean), 1, 1))
        self.register_buffer("shift", torch.empty(len(mean), 1, 1))
        self.expect((0.0,) * len(mean), (1.0,) * len(mean))

    def forward(self, images: Tensor) -> Tensor:
        """Logits for images in [0, 1], or with the normalisation given to `expect`."""
        return self.model(images * self.scale + self.shift)

    def expect(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take images with this normalisation from now on, instead of images in [0, 1].

        Raises:
            ValueError: another number of channels.
        """
        if len(mean) != len(self.mean):
            raise ValueError(
                f"the normalisation of a {type(self.model).__name__} is for {len(self.mean)} channels, the images have "
                f"{len(mean)}: give images of {len(self.mean)} channels, or one value per channel"
            )
        theirs, own = (torch.tensor(each)[..., None, None] for each in ((mean, std), (self.mean, self.std)))
        self.scale, self.shift = theirs[1] / own[1], (theirs[0] - own[0]) / own[1]


class Ensemble(nn.Module):
    """Several networks as one teacher, with the weighted mean of their probabilities.

    The logits are log sum_m w_m softmax(z_m), with logits z_m and weights w_m that sum to 1: their softmax is the mean.
    They fit every objective on logits; a temperature softens the mean. There are no feature maps.

    Args:
        members: at least two networks, images `(B, C, H, W)` to logits `(B, classes)`; `Normalized` for those with a
            normalisation of their own.
        weights: one positive number per member, with any sum; equal by default.

    Raises:
        TypeError: a member that is not a module, or a weight that is not a number.
        ValueError: fewer than two members, another number of weights, or one that is not above 0.

    Example:
        >>> import timm, torch
        >>> from lkd.models import Ensemble
        >>> members = [timm.create_model(name, num_classes=10).eval() for name in ("mini_slak", "mini_convnext")]
        >>> images = torch.rand(2, 3, 32, 32)
        >>> mean = 0.75 * members[0](images).softmax(1) + 0.25 * members[1](images).softmax(1)
        >>> torch.allclose(Ensemble(members, weights=[3, 1])(images).softmax(1), mean, atol=1e-6)
        True
    """

    log_weights: Tensor

    def __init__(self, members: Sequence[nn.Module], weights: Sequence[float] | None = None):
        super().__init__()
        if len(members) < 2:
            raise ValueError(f"an ensemble needs at least two members, got {len(members)}: give a single one by itself")
        for place, member in enumerate(members):
            _check_module(f"members[{place}]", member)
        if weights is not None and len(weights) != len(members):
            raise ValueError(f"weights must have one number per member, got {len(weights)} for {len(members)} members")
        for place, weight in enumerate(weights or ()):
            check_number(f"weights[{place}]", weight, 0, above=True)
        self.members = nn.ModuleList(members)
        given = torch.tensor([float(weight) for weight in weights or [1.0] * len(members)])
        self.register_buffer("log_weights", (given / given.sum()).log())

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, classes)`, float32 or wider.

        Raises:
            ValueError: members with different numbers of classes.
        """
        logits = [member(images) for member in self.members]
        if len({each.shape for each in logits}) > 1:
            shapes = ", ".join(str(tuple(each.shape)) for each in logits)
            raise ValueError(f"the members of an ensemble must have the same classes, got logits of shapes {shapes}")
        stacked = torch.stack([each if each.dtype == torch.float64 else each.float() for each in logits])
        return (stacked.log_softmax(-1) + self.log_weights[:, None, None]).logsumexp(0)


def with_normalisation(model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """A network, changed in place, where every `Normalized` expects images with this normalisation."""
    for module in model.modules():
        if isinstance(module, Normalized):
            module.expect(mean, std)
    return model


def _check_module(name: str, model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name} must be an nn.Module, got a {type(model).__name__}")
