"""Evaluation: each image counts once, on any number of processes."""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from lkd.data import DataSet, Labelled
from lkd.models.exact import device_of, in_eval_mode
from lkd.util.torch_defaults import torch_defaults

_BATCH = 256


@torch_defaults()
def evaluate(
    model: nn.Module, data: DataSet, split: Labelled, accelerator: Accelerator | None = None, workers: int = 0
) -> dict[str, float]:
    """Accuracy and label loss of a model on a split.

    Args:
        model: images `(B, C, H, W)`, normalised as `data` says, to logits.
        data: where the split is from; it says how images are evaluated.
        split: `data.val` or `data.test`, say.
        accelerator: whose processes share the work, and whose device is used; None for one on the model's device.
        workers: processes of each of these that read images ahead, where images are read from files.

    Returns:
        `top1` in percent and `loss`, the mean cross-entropy with the label in nats.

    Raises:
        FloatingPointError: logits that are not finite; names the split and the share of its images.

    Example:
        >>> import timm, lkd
        >>> from lkd.data import load
        >>> from lkd.engine import evaluate
        >>> data = load("digits")
        >>> sorted(evaluate(timm.create_model("mini_vit", in_chans=1, num_classes=10), data, data.val))
        ['loss', 'top1']
    """
    process, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    device = device_of(model)
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    with in_eval_mode(model), torch.no_grad():
        chosen = torch.arange(process, len(split), processes)
        for images, labels in data.batches(split, chosen, _BATCH, workers):
            logits, labels = model(images.to(device)).float(), labels.to(device)
            correct, loss = (logits.argmax(1) == labels).sum(), F.cross_entropy(logits, labels, reduction="sum")
            sums += torch.stack([correct, loss, (~logits.isfinite()).any(1).sum()])
    if accelerator:
        sums = accelerator.reduce(sums)
    correct, loss, broken = (sums / len(split)).tolist()
    if broken:
        name = next((f" of {name}" for name, each in data.splits.items() if each is split), "")
        raise FloatingPointError(
            f"the model's logits are not finite for {100 * broken:.3g} % of {len(split)} images{name}: its weights or "
            "the images hold values that are not finite, or a product overflows"
        )
    return {"top1": 100 * correct, "loss": loss}
