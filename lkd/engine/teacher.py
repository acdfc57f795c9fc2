"""Teachers: frozen models that get the student's images, in their own normalisation."""

import hashlib
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lkd.data import Batch, DataSet
from lkd.engine.top_k import compress, expand
from lkd.models.copying import copy_to_cpu
from lkd.models.normalization import Normalization
from lkd.objectives import Maps, Outputs
from lkd.objectives.frozen import FrozenNetwork
from lkd.objectives.tensors import hard_label
from lkd.util.identity import digest as content_digest
from lkd.util.old_names import renamed


class Teacher(Protocol):
    """A callable that returns the teacher's outputs for a batch of an epoch."""

    def __call__(self, epoch: int, batch: Batch) -> Outputs:
        """Logits and maps of the batch, on its device, without gradients."""


class FrozenTeacher(FrozenNetwork):
    """A teacher that runs on every batch: in eval mode, without gradients, in its fastest exact form.

    Args:
        model: images `(B, C, H, W)` to logits. A copy is used, with batch norm folded and fast depthwise convolutions
            if its outputs on two images of `data` stay equal; otherwise there is a warning.
        data: the data set; the student's images are normalised by its mean and std, and so are the teacher's unless it
            is an `lkd.models.Normalized`.
        stages: feature maps to return, see `lkd.objectives.outputs.compute_outputs`.

    Raises:
        ValueError: a model that cannot be copied; names the attribute.
    """

    def __init__(self, model: nn.Module, data: DataSet, stages: Maps = 0):
        given = Normalization(data.mean, data.std)
        super().__init__(copy_to_cpu(model, "teacher"), _two_images(data), given, stages)

    def __call__(self, epoch: int, batch: Batch) -> Outputs:
        """Outputs for the batch; the epoch is ignored."""
        return self.outputs(batch.images)


def _two_images(data: DataSet) -> Tensor:
    images, _ = next(data.batches(data.val, torch.arange(min(2, len(data.val))), 2))
    return images


class TopKTeacher:
    """A teacher with its outputs truncated to the top `k` classes, the label and the remaining mass."""

    def __init__(self, teacher: Teacher, k: int):
        self.teacher, self.k = teacher, k

    def __call__(self, epoch: int, batch: Batch) -> Outputs:
        """Outputs for the batch, with truncated logits."""
        full, label = self.teacher(epoch, batch), hard_label(batch.target)
        logits = expand(compress(full.logits, label, self.k), label, full.logits.shape[1])
        return full._replace(logits=logits)


def weights_hash(model: nn.Module) -> str:
    """A hash of a model's weights and buffers with their names, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor) or tensor.is_quantized:
            digest.update(f"{name} {content_digest(tensor)}".encode())
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


_OLD_NAMES = {
    "BriefTeacher": "lkd.engine.teacher:TopKTeacher",
    "LiveTeacher": "lkd.engine.teacher:FrozenTeacher",
    "fastest": "lkd.objectives.frozen:optimise_for_inference",
}


def __getattr__(name: str) -> Any:
    return renamed(__name__, name, _OLD_NAMES)
