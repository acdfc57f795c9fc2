"""What an objective asks of a network: its logits, and where it compares features, maps of its last stages."""

from torch import Tensor, nn

from lkd.objectives import Outputs


def outputs(model: nn.Module, images: Tensor, stages: int) -> Outputs:
    """A network's logits, and the feature maps of its last `stages` stages.

    Maps are those of timm's `forward_intermediates`: tokens in rows and columns without the class token, and, where a
    network has a norm before pooling, after it.

    Args:
        model: images to logits; with `forward_intermediates` and `forward_head`, as timm's models, for `stages` > 0.
        images: `(B, C, H, W)`.
        stages: how many maps, 0 for none.

    Raises:
        TypeError: a model without those methods, for `stages` > 0.

    Example:
        >>> import timm, torch
        >>> from lkd.engine.outputs import outputs
        >>> model = timm.create_model("mini_vit", in_chans=1, num_classes=10)
        >>> outputs(model, torch.zeros(2, 1, 32, 32), stages=1).maps[0].shape
        torch.Size([2, 64, 8, 8])
    """
    if not stages:
        return Outputs(model(images))
    intermediates, head = (getattr(model, name, None) for name in ("forward_intermediates", "forward_head"))
    if intermediates is None or head is None:
        raise TypeError(
            f"a {type(model).__name__} has no feature maps: give a model with forward_intermediates and forward_head, "
            "as timm's have, or an objective that compares logits alone"
        )
    features, maps = intermediates(images, indices=stages, norm=True, output_fmt="NCHW")
    return Outputs(head(features), tuple(maps))
