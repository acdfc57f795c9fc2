"""Predictions of a student and its teacher for each image of a split."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from lkd.data import Batch, DataSet, Labelled
from lkd.engine.accelerators import evaluation_precision
from lkd.engine.evaluate import BATCH_SIZE, check_finite, process_share
from lkd.engine.teacher import Teacher
from lkd.metrics import agreement, calibration_error
from lkd.models.inference import device_of, in_eval_mode
from lkd.util.torch_defaults import torch_defaults


class Predictions(NamedTuple):
    """Predictions on the images of a split, in their order; tensors of shape (N,).

    Attributes:
        labels, classes: the label and the predicted class, int64.
        confidence: the probability of the predicted class.
        losses: cross-entropy with the label, in nats.
        teacher_classes: the class that the teacher predicts, int64; None without a teacher.
        divergence: KL divergence of the student's distribution from the teacher's, KL(teacher || student) at
            temperature 1, in nats; None without a teacher.
    """

    labels: Tensor
    classes: Tensor
    confidence: Tensor
    losses: Tensor
    teacher_classes: Tensor | None = None
    divergence: Tensor | None = None

    def metrics(self) -> dict[str, float]:
        """`top1` and `ece` in percent, `loss` in nats; with a teacher, `agreement` in percent and `kl` in nats."""
        correct = self.classes == self.labels
        found = {
            "top1": 100 * correct.double().mean().item(),
            "loss": self.losses.double().mean().item(),
            "ece": calibration_error(self.confidence.double().numpy(), correct.numpy()),
        }
        if self.teacher_classes is not None and self.divergence is not None:
            found["agreement"] = agreement(self.classes.numpy(), self.teacher_classes.numpy())
            found["kl"] = self.divergence.double().mean().item()
        return found


@torch_defaults()
def predict(
    model: nn.Module,
    data: DataSet,
    split: Labelled,
    teacher: Teacher | None = None,
    accelerator: Accelerator | None = None,
    workers: int = 0,
) -> Predictions:
    """Predictions of a model on a split of a data set, the same in all processes.

    Args:
        model: images `(B, C, H, W)`, normalised as `data` does it, to logits.
        data: the data set.
        split: `data.val` or `data.test`, for example.
        teacher: returns a teacher's outputs for a batch with the positions of its images in the split; None without.
        accelerator: its processes share the images; by default this process does it all.
        workers: worker processes that read images from files, for each process.

    Raises:
        FloatingPointError: logits that are not finite; names the share of the images.

    Example:
        >>> import timm
        >>> from lkd.data import load
        >>> from lkd.engine.predictions import predict
        >>> data = load("digits")
        >>> predict(timm.create_model("mini_vit", in_chans=1, num_classes=10), data, data.test).classes.shape
        torch.Size([250])
    """
    share, device = process_share(len(split), accelerator), device_of(model)
    parts: list[tuple[Tensor, ...]] = []
    with in_eval_mode(model), torch.no_grad():
        for (images, labels), positions in zip(
            data.batches(split, share, BATCH_SIZE, workers), share.split(BATCH_SIZE), strict=True
        ):
            batch = Batch(images.to(device, non_blocking=True), labels.to(device, non_blocking=True), positions)
            with evaluation_precision(device, accelerator):
                logits = model(batch.images).float()
            parts.append(_of_batch(logits, batch, teacher, accelerator))
    columns = [torch.cat(column).cpu() for column in zip(*parts, strict=True)]
    if accelerator and accelerator.num_processes > 1:
        shares = [each for each in gather_object([columns]) if each]  # a process may have no image
        columns = [torch.cat(column) for column in zip(*shares, strict=True)]
    positions, broken, *columns = columns
    check_finite(int(broken.sum()), len(broken), "images")
    order = positions.argsort()
    return Predictions(*(column[order] for column in columns))


def _of_batch(
    logits: Tensor, batch: Batch, teacher: Teacher | None, accelerator: Accelerator | None
) -> tuple[Tensor, ...]:
    """Positions, whether logits are not finite, and the columns of `Predictions`, of one batch."""
    log_probabilities = F.log_softmax(logits, 1)
    confidence, classes = log_probabilities.max(1)
    losses = F.nll_loss(log_probabilities, batch.target, reduction="none")
    found = batch.positions, (~logits.isfinite()).any(1), batch.target, classes, confidence.exp(), losses
    if teacher is None:
        return found
    with accelerator.autocast() if accelerator else torch.autocast(logits.device.type, enabled=False):
        of_teacher = teacher(0, batch).logits
    target = F.log_softmax(of_teacher.float(), 1)
    divergence = F.kl_div(log_probabilities, target, reduction="none", log_target=True).sum(1)
    return *found, target.argmax(1), divergence
