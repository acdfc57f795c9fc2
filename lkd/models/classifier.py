"""What SLaK and CSWin have in common: they end in one linear layer, and have timm's methods for it."""

from abc import abstractmethod

from timm.layers import trunc_normal_
from torch import Tensor, nn


class Classifier(nn.Module):
    """A network that makes features, pools them, and classifies them by a linear layer called `head`."""

    num_classes: int
    num_features: int
    head: nn.Module

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Images `(B, in_chans, H, W)` to features before pooling."""

    @abstractmethod
    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features before pooling to logits `(B, num_classes)`, or to the pooled features `(B, num_features)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, in_chans, H, W)` to logits `(B, num_classes)`."""
        return self.forward_head(self.forward_features(x))

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
