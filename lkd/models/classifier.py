"""What SLaK and CSWin have in common: stages of blocks, then one linear layer, and timm's methods for both."""

from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import trunc_normal_
from timm.models._features import feature_take_indices
from torch import Tensor, nn


class Classifier(nn.Module):
    """A network that makes a map in each stage, pools the last one, and classifies by a linear layer called `head`."""

    num_classes: int
    num_features: int
    head: nn.Module
    feature_info: list[dict[str, Any]]
    grad_checkpointing = False

    @abstractmethod
    def stage_maps(self, x: Tensor) -> Iterator[Tensor]:
        """Images `(B, in_chans, H, W)` to the map `(B, C, h, w)` of each stage in turn."""

    def normed(self, last: Tensor) -> Tensor:
        """The last stage's map after the final norm, where that comes before pooling; as it is by default."""
        return last

    @abstractmethod
    def features_of(self, last: Tensor) -> Tensor:
        """The last stage's map `(B, C, h, w)` as features before pooling."""

    @abstractmethod
    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features before pooling to logits `(B, num_classes)`, or to the pooled features `(B, num_features)`."""

    def forward_features(self, x: Tensor) -> Tensor:
        """Images `(B, in_chans, H, W)` to features before pooling."""
        *_, last = self.stage_maps(x)
        return self.features_of(last)

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, in_chans, H, W)` to logits `(B, num_classes)`."""
        return self.forward_head(self.forward_features(x))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether a training step computes each block again in its backward pass, to hold less in memory."""
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
        """timm's method: the maps of the stages in `indices`, after what `forward_features` gives unless left out.

        Args:
            x: images.
            indices: stages; all by default, the last n for a number.
            norm: the last stage's map after the final norm, where that comes before pooling.
            stop_early: of no effect; later stages are left out whenever `intermediates_only` asks for none of them.
            output_fmt: `"NCHW"`, the only one here.
            intermediates_only: give the list of maps alone.

        Raises:
            ValueError: another `output_fmt`.
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
        """The linear head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by a new one; `global_pool` is timm's argument, of which only 'avg' exists here."""
        if global_pool not in (None, "avg"):
            raise ValueError(f"global_pool must be 'avg', got {global_pool!r}")
        self.num_classes = num_classes
        self.head = linear_head(self.num_features, num_classes)


def linear_head(num_features: int, num_classes: int) -> nn.Module:
    """A linear layer, initialised; without classes, features pass through."""
    if not num_classes:
        return nn.Identity()
    head = nn.Linear(num_features, num_classes)
    initialise(head)
    return head


def initialise(module: nn.Conv2d | nn.Linear) -> None:
    """Weights from a truncated normal of std 0.02, biases 0."""
    trunc_normal_(module.weight, std=0.02)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def imagenet_cfg(first_conv: str, classifier: str, **values: Any) -> dict[str, Any]:
    """timm's configuration of a model for ImageNet at 224 pixels."""
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
