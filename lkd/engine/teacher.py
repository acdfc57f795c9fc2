"""Teachers: frozen models that see what the student sees, under their own input normalisation."""

import hashlib
from typing import Protocol

import torch
from timm.utils import reparameterize_model
from torch import nn

from lkd.data import Batch, DataSet
from lkd.engine.outputs import outputs
from lkd.engine.top_k import lengthen, shorten
from lkd.objectives import Outputs
from lkd.objectives.tensors import hard_label
from lkd.ops import fast_depthwise


class Teacher(Protocol):
    """What gives the teacher's outputs for a batch of an epoch."""

    def __call__(self, epoch: int, batch: Batch) -> Outputs:
        """Logits and maps of the batch, on its device, without gradients."""


class LiveTeacher:
    """A teacher that is run on every batch: in eval mode, without gradients, never trained, in its fastest exact form.

    Args:
        model: images `(B, C, H, W)` to logits; what is run is a copy, with batch norm folded where the model can.
        data: whose normalisation the student's images carry.
        mean, std: what the model itself expects of images in [0, 1]; None for the same as `data`.
        stages: how many of its feature maps are asked for.
    """

    def __init__(
        self,
        model: nn.Module,
        data: DataSet,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        stages: int = 0,
    ):
        self.model = fast_depthwise(reparameterize_model(model.eval())).requires_grad_(False)
        ours, spread = torch.tensor(data.mean), torch.tensor(data.std)
        theirs = ours if mean is None else torch.tensor(mean)
        width = spread if std is None else torch.tensor(std)
        self.scale, self.shift = (spread / width)[:, None, None], ((ours - theirs) / width)[:, None, None]
        self.same = mean is None and std is None
        self.stages, self.ask = stages, outputs

    def __call__(self, epoch: int, batch: Batch) -> Outputs:
        """Outputs for the batch; an epoch is not looked at."""
        images = batch.images
        if not self.same:
            images = images * self.scale.to(images.device) + self.shift.to(images.device)
        with torch.no_grad():
            return self.ask(self.model, images, self.stages)


class BriefTeacher:
    """A teacher of whose distribution only the K likeliest classes, the label and the rest are told.

    Args:
        teacher: whose outputs are shortened.
        k: how many classes.
    """

    def __init__(self, teacher: Teacher, k: int):
        self.teacher, self.k = teacher, k

    def __call__(self, epoch: int, batch: Batch) -> Outputs:
        """Outputs for the batch, the logits shortened."""
        full, label = self.teacher(epoch, batch), hard_label(batch.target)
        logits = lengthen(shorten(full.logits, label, self.k), label, full.logits.shape[1])
        return full._replace(logits=logits)


def weights_hash(model: nn.Module) -> str:
    """16 hexadecimal digits that change with any weight or buffer of a model, or with its name."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
