"""Base class of SLaK and CSWin: stages of blocks, a linear head, and the methods of a timm model."""

from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import trunc_normal_
from timm.models._features import feature_take_indices
from torch import Tensor, nn


class Classifier(nn.Module):
    """A network of stages with a feature map each; the last map is pooled and classified by the linear layer `head`."""

    num_classes: int
    num_features: int
    head: nn.Module
    feature_info: list[dict[str, Any]]
    grad_checkpointing = False

    @abstractmethod
    def stage_maps(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the feature map `(B, C, h, w)` of each stage for images `(B, in_chans, H, W)`."""

    def normed(self, last: Tensor) -> Tensor:
        """Apply the final norm to the last map, if it comes before pooling; by default, return the map unchanged."""
        return last

    @abstractmethod
    def features_of(self, last: Tensor) -> Tensor:
        """Features before pooling, from the last map `(B, C, h, w)`."""

    @abstractmethod
    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features before pooling to logits `(B, num_classes)` or, with `pre_logits`, to `(B, num_features)`."""

    def forward_features(self, x: Tensor) -> Tensor:
        """Images `(B, in_chans, H, W)` to features before pooling."""
        *_, last = self.stage_maps(x)
        return self.features_of(last)

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, in_chans, H, W)` to logits `(B, num_classes)`."""
        return self.forward_head(self.forward_features(x))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Enable gradient checkpointing: blocks are recomputed in the backward pass to save memory."""
        self.grad_checkpointing = enable

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return intermediate feature maps, with timm's signature: `(features, maps)`, or only the maps.

        Args:
            x: images `(B, in_chans, H, W)`.
            indices: stages; all if None, the last n if an int.
            norm: apply the final norm to the last stage's map, if the norm comes before pooling.
            stop_early: no effect; with `intermediates_only`, unused later stages are always skipped.
            output_fmt: only `"NCHW"`.
            intermediates_only: return only the list of maps.

        Raises:
            ValueError: unsupported `output_fmt`.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        taken, last = feature_take_indices(len(self.feature_info), indices)
        maps = list(islice(self.stage_maps(x), last + 1 if intermediates_only else None))
        chosen = [maps[i] for i in taken]
        if norm and last + 1 == len(self.feature_info):
            chosen[-1] = self.normed(chosen[-1])
        return chosen if intermediates_only else (self.features_of(maps[-1]), chosen)

    def get_classifier(self) -> nn.Module:
        """The linear classification head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head with a new one; `global_pool`, an argument of timm's, must be None or 'avg'."""
        if global_pool not in (None, "avg"):
            raise ValueError(f"global_pool must be 'avg', got {global_pool!r}")
        self.num_classes = num_classes
        self.head = linear_head(self.num_features, num_classes)


def linear_head(num_features: int, num_classes: int) -> nn.Module:
    """An initialised linear layer, or the identity for 0 classes."""
    if not num_classes:
        return nn.Identity()
    head = nn.Linear(num_features, num_classes)
    initialise(head)
    return head


def initialise(module: nn.Conv2d | nn.Linear) -> None:
    """Draw weights from a truncated normal distribution with std 0.02; set biases to 0."""
    trunc_normal_(module.weight, std=0.02)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def imagenet_cfg(first_conv: str, classifier: str, **values: Any) -> dict[str, Any]:
    """timm's default configuration of an ImageNet model at 224x224 pixels."""
    return {
        "input_size": (3, 224, 224),
        "num_classes": 1000,
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "first_conv": first_conv,
        "classifier": classifier,
        **values,
    }
