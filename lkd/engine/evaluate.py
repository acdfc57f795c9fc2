"""Evaluation: each image counts once, on any number of processes."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from lkd.data import DataSet, Labelled
from lkd.engine.accelerators import evaluation_precision
from lkd.models.inference import device_of, in_eval_mode
from lkd.util.torch_defaults import torch_defaults

BATCH_SIZE = 256


@torch_defaults()
def evaluate(
    model: nn.Module, data: DataSet, split: Labelled, accelerator: Accelerator | None = None, workers: int = 0
) -> dict[str, float]:
    """Accuracy and cross-entropy of a model on a split of a data set.

    Args:
        model: images `(B, C, H, W)`, normalised as `data` does it, to logits.
        data: the data set; it defines how its images are evaluated.
        split: `data.val` or `data.test`, for example, or a subset of one.
        accelerator: its processes share the images, on its device; by default this process does it all, on the model's
            device.
        workers: worker processes that read images from files, for each process.

    Returns:
        `top1` in percent and `loss`, the mean cross-entropy with the label in nats.

    Raises:
        FloatingPointError: logits that are not finite; names the split and the share of its images.

    Example:
        >>> import timm
        >>> from lkd.data import load
        >>> from lkd.engine import evaluate
        >>> data = load("digits")
        >>> sorted(evaluate(timm.create_model("mini_vit", in_chans=1, num_classes=10), data, data.val))
        ['loss', 'top1']
    """
    name = next((f"images of {name}" for name, each in data.splits.items() if each is split), "images")
    batches = data.batches(split, process_share(len(split), accelerator), BATCH_SIZE, workers)
    return evaluate_batches(model, batches, accelerator, name)


@torch_defaults()
def evaluate_batches(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    accelerator: Accelerator | None = None,
    name: str = "images",
) -> dict[str, float]:
    """Accuracy and cross-entropy of a model on batches of images, from a `DataLoader` for example.

    Args:
        model: images `(B, C, H, W)` to logits.
        batches: pairs of images as the model expects them and labels `(B,)` int64. With several processes, each process
            passes its own share.
        accelerator: sums up the shares of its processes; by default there is one process.
        name: the images' name in error messages.

    Returns:
        `top1` in percent and `loss`, the mean cross-entropy with the label in nats.

    Raises:
        FloatingPointError: logits that are not finite; names the share of the images.
        ValueError: no images in any process.

    Example:
        >>> import timm, torch
        >>> from lkd.engine import evaluate_batches
        >>> model = timm.create_model("mini_vit", in_chans=1, num_classes=10)
        >>> sorted(evaluate_batches(model, [(torch.zeros(2, 1, 32, 32), torch.tensor([3, 1]))]))
        ['loss', 'top1']
    """
    device = device_of(model)
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    with in_eval_mode(model), torch.no_grad():
        for images, labels in batches:
            images, labels = (tensor.to(device, non_blocking=True) for tensor in (images, labels))
            with evaluation_precision(device, accelerator):
                logits = model(images).float()
            correct, loss = (logits.argmax(1) == labels).sum(), F.cross_entropy(logits, labels, reduction="sum")
            broken = (~logits.isfinite()).any(1).sum()
            sums += torch.stack([correct, loss, broken, torch.tensor(len(labels), device=device)])
    if accelerator:
        sums = accelerator.reduce(sums)
    count = int(sums[3])
    if not count:
        raise ValueError(f"there are no {name} to evaluate: give at least one batch")
    check_finite(int(sums[2]), count, name)
    correct, loss, *_ = (sums / count).tolist()
    return {"top1": 100 * correct, "loss": loss}


def check_finite(broken: int, count: int, name: str) -> None:
    """Raise a FloatingPointError if logits are not finite for `broken` of `count` images."""
    if broken:
        raise FloatingPointError(
            f"the model's logits are not finite for {100 * broken / count:.3g} % of {count} {name}: its weights or the "
            "images hold values that are not finite, or a product overflows"
        )


def process_share(count: int, accelerator: Accelerator | None = None) -> Tensor:
    """Indices of the images that this process evaluates, out of `count`, int64; all of them in a single process."""
    process, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    return torch.arange(process, count, processes)
