"""Teachers: frozen models that see what the student sees, under their own input normalisation."""

import copy
import hashlib
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lkd.data import Batch, DataSet
from lkd.engine.outputs import outputs
from lkd.engine.top_k import compress, expand
from lkd.models.copying import twin
from lkd.models.exact import Forward, check_outputs, device_of, evaluating, outputs_of
from lkd.models.folding import foldable, merged
from lkd.objectives import Outputs
from lkd.objectives.tensors import hard_label
from lkd.ops import fast_depthwise, slow_depthwise
from lkd.util.checks import some
from lkd.util.identity import digest as content_digest
from lkd.util.old_names import renamed


class Teacher(Protocol):
    """What gives the teacher's outputs for a batch of an epoch."""

    def __call__(self, epoch: int, batch: Batch) -> Outputs:
        """Logits and maps of the batch, on its device, without gradients."""


class FrozenTeacher:
    """A teacher that is run on every batch: in eval mode, without gradients, never trained, in its fastest exact form.

    Args:
        model: images `(B, C, H, W)` to logits; is left as it is. What is run is a copy, with batch norm folded and fast
            depthwise convolutions where the outputs on two images of `data` stay equal, and with a warning elsewhere.
        data: whose normalisation the student's images carry.
        mean, std: what the model itself expects of images in [0, 1]; None for the same as `data`.
        stages: how many of its feature maps are asked for.

    Raises:
        ValueError: a model that cannot be copied; names the attribute.
    """

    def __init__(
        self,
        model: nn.Module,
        data: DataSet,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        stages: int = 0,
    ):
        ours, spread = torch.tensor(data.mean), torch.tensor(data.std)
        theirs = ours if mean is None else torch.tensor(mean)
        width = spread if std is None else torch.tensor(std)
        self.scale, self.shift = (spread / width)[:, None, None], ((ours - theirs) / width)[:, None, None]
        self.same = mean is None and std is None
        self.stages = stages
        self.ask: Callable[[nn.Module, Tensor, int], Outputs] = outputs
        self.trial = self._normalised(_two_images(data))
        frozen = evaluating(twin(model, "teacher"))
        if left := [name or type(model).__name__ for name, module in frozen.named_modules() if module.training]:
            warnings.warn(f"teacher's eval() leaves {some(left)} in training mode: its outputs may vary", stacklevel=3)
        self.model = fastest(frozen, self.trial, stages)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def __call__(self, epoch: int, batch: Batch) -> Outputs:
        """Outputs for the batch; an epoch is not looked at."""
        with torch.no_grad():
            return self.ask(self.model, self._normalised(batch.images), self.stages)

    def to_channels_last(self) -> None:
        """Put the weights in channels-last memory format; with a warning, not where that fails or changes outputs."""
        forward = _on(self.trial, self.stages)

        def change(model: nn.Module) -> nn.Module:
            return model.to(memory_format=torch.channels_last)

        self.model = _changed(self.model, change, forward, outputs_of(self.model, forward), "channels_last")

    def compile(self) -> None:
        """Compile the forward pass; with a warning, not where that fails on the first batch or changes its outputs."""
        self.ask = _Compiled()

    def _normalised(self, images: Tensor) -> Tensor:
        """A copy of the student's images, which the teacher may change, under its own normalisation."""
        return images.clone() if self.same else images * self.scale.to(images.device) + self.shift.to(images.device)


def _two_images(data: DataSet) -> Tensor:
    images, _ = next(data.batches(data.val, torch.arange(min(2, len(data.val))), 2))
    return images


def fastest(model: nn.Module, images: Tensor, stages: int) -> nn.Module:
    """A teacher with its branches merged, batch norms folded and fast depthwise convolutions, as far as that is exact.

    Args:
        model: in eval mode; is left as it is.
        images: on which outputs are compared before and after; a change that fails, or changes them, is left out with
            a warning.
        stages: how many feature maps are compared too.

    Example:
        >>> import timm, torch
        >>> from lkd.engine.teacher import fastest
        >>> from lkd.models.folding import foldable
        >>> foldable(fastest(timm.create_model("mini_slak").eval(), torch.zeros(2, 3, 32, 32), stages=0))
        []
    """
    forward = _on(images, stages)
    try:
        expected = outputs_of(model, forward)
    except Exception:  # it does not take these images, which whoever calls it says
        return model
    if foldable(model):
        try:
            model = merged(model, forward, expected, "teacher")
        except ValueError as error:
            warnings.warn(f"{error}. The teacher runs unfolded, slower and with equal outputs", stacklevel=3)
    if not slow_depthwise(model):
        return model
    return _changed(model, fast_depthwise, forward, expected, "lkd.ops.fast_depthwise")


def _on(images: Tensor, stages: int) -> Forward:
    return lambda network: outputs(network, images.to(device_of(network)), stages)


def _changed(
    model: nn.Module, change: Callable[[nn.Module], nn.Module], forward: Forward, expected: list[Tensor], name: str
) -> nn.Module:
    """A changed copy of a teacher; with a warning, the teacher itself where that fails or changes its outputs."""
    try:
        made = change(copy.deepcopy(model))
        check_outputs(outputs_of(made, forward), expected)
    except Exception as error:  # what foreign code does with what it did not expect cannot be foreseen
        warnings.warn(
            f"{name} fails on the teacher, a {type(model).__name__} ({error}): it runs without, slower and with equal "
            "outputs",
            stacklevel=4,
        )
        return model
    return made


class _Compiled:
    """`outputs`, compiled; the first batch is computed without compilation too, to compare."""

    def __init__(self) -> None:
        self.ask, self.compared = torch.compile(outputs), False

    def __call__(self, model: nn.Module, images: Tensor, stages: int) -> Outputs:
        if self.compared:
            return self.ask(model, images, stages)
        self.compared, plain = True, outputs(model, images, stages)
        try:
            given = self.ask(model, images, stages)
            check_outputs([given.logits, *given.maps], [plain.logits, *plain.maps])
        except Exception as error:  # what a compiler raises cannot be foreseen
            warnings.warn(
                f"torch.compile fails on the teacher, a {type(model).__name__} ({str(error).splitlines()[0]}): it runs "
                "without, slower and with equal outputs",
                stacklevel=3,
            )
            self.ask = outputs
            return plain
        return given


class TopKTeacher:
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
        logits = expand(compress(full.logits, label, self.k), label, full.logits.shape[1])
        return full._replace(logits=logits)


def weights_hash(model: nn.Module) -> str:
    """16 hexadecimal digits that change with any weight or buffer of a model, or with its name."""
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
}


def __getattr__(name: str) -> Any:
    return renamed(__name__, name, _OLD_NAMES)
