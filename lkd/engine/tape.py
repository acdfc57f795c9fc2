"""The tape: a teacher's logits along a stream, recorded once and read by every student of that stream."""

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from lkd.data import Batch, Stream
from lkd.engine.teacher import LiveTeacher
from lkd.files import replacing


class Tape:
    """A recorded teacher: gives the logits of a batch by its place in the stream.

    Args:
        path: a file that `record` wrote, float32 `(epochs, samples of an epoch, C)`; it is mapped, not read.
    """

    def __init__(self, path: Path):
        self.logits = np.load(path, mmap_mode="r")

    def __call__(self, epoch: int, batch: Batch) -> Tensor:
        """Logits `(b, C)` float32 of the batch, on its device."""
        return torch.from_numpy(self.logits[epoch, batch.positions.cpu()]).to(batch.images.device)


def record(teacher: LiveTeacher, stream: Stream, epochs: int, path: Path, accelerator: Accelerator) -> None:
    """Run a teacher along a stream and write its logits; the file appears whole."""
    teacher.model.to(accelerator.device)
    logits = [
        [_logits(teacher, stream, epoch, step, accelerator) for step in range(stream.steps)] for epoch in range(epochs)
    ]
    with replacing(path) as temporary:
        np.save(temporary, torch.stack([torch.cat(epoch) for epoch in logits]).numpy())


def _logits(teacher: LiveTeacher, stream: Stream, epoch: int, step: int, accelerator: Accelerator) -> Tensor:
    batch = Batch(*(tensor.to(accelerator.device) for tensor in stream.batch(epoch, step)))
    with accelerator.autocast():
        return teacher(epoch, batch).float().cpu()
