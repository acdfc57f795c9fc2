"""Teachers: frozen models that get the student's images, in their own normalisation."""

import copy
import hashlib
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lkd.data import Batch, DataSet
from lkd.engine.forward import compute_outputs
from lkd.engine.top_k import compress, expand
from lkd.models.copying import copy_to_cpu
from lkd.models.folding import foldable_modules, merge_branches
from lkd.models.inference import Forward, check_equal_outputs, device_of, output_tensors, set_eval_mode
from lkd.objectives import Outputs
from lkd.objectives.tensors import hard_label
from lkd.ops import fast_depthwise, slow_depthwise
from lkd.util.checks import some
from lkd.util.identity import digest as content_digest
from lkd.util.old_names import renamed


class Teacher(Protocol):
    """A callable that returns the teacher's outputs for a batch of an epoch."""

    def __call__(self, epoch: int, batch: Batch) -> Outputs:
        """Logits and maps of the batch, on its device, without gradients."""


class FrozenTeacher:
    """A teacher that runs on every batch: in eval mode, without gradients, in its fastest exact form.

    Args:
        model: images `(B, C, H, W)` to logits. A copy is used, with batch norm folded and fast depthwise convolutions
            if its outputs on two images of `data` stay equal; otherwise there is a warning.
        data: the data set; the student's images are normalised by its mean and std.
        mean, std: normalisation that the model expects, for images in [0, 1]; by default the one of `data`.
        stages: number of feature maps to return.

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
        data_mean, data_std = torch.tensor(data.mean), torch.tensor(data.std)
        model_mean = data_mean if mean is None else torch.tensor(mean)
        model_std = data_std if std is None else torch.tensor(std)
        self.scale = (data_std / model_std)[:, None, None]
        self.shift = ((data_mean - model_mean) / model_std)[:, None, None]
        self.same = mean is None and std is None
        self.stages = stages
        self.forward: Callable[[nn.Module, Tensor, int], Outputs] = compute_outputs
        self.trial = self._normalised(_two_images(data))
        frozen = set_eval_mode(copy_to_cpu(model, "teacher"))
        if left := [name or type(model).__name__ for name, module in frozen.named_modules() if module.training]:
            warnings.warn(f"teacher's eval() leaves {some(left)} in training mode: its outputs may vary", stacklevel=3)
        self.model = optimise_for_inference(frozen, self.trial, stages)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def __call__(self, epoch: int, batch: Batch) -> Outputs:
        """Outputs for the batch; the epoch is ignored."""
        with torch.no_grad():
            return self.forward(self.model, self._normalised(batch.images), self.stages)

    def to_channels_last(self) -> None:
        """Convert the weights to channels-last memory format; a warning instead if that fails or changes outputs."""
        forward = _forward(self.trial, self.stages)

        def change(model: nn.Module) -> nn.Module:
            return model.to(memory_format=torch.channels_last)

        self.model = _try_change(self.model, change, forward, output_tensors(self.model, forward), "channels_last")

    def compile(self) -> None:
        """Compile the forward pass; a warning instead if that fails on the first batch or changes its outputs."""
        self.forward = _Compiled()

    def _normalised(self, images: Tensor) -> Tensor:
        """A copy of the student's images with the teacher's normalisation; the teacher may change it in place."""
        return images.clone() if self.same else images * self.scale.to(images.device) + self.shift.to(images.device)


def _two_images(data: DataSet) -> Tensor:
    images, _ = next(data.batches(data.val, torch.arange(min(2, len(data.val))), 2))
    return images


def optimise_for_inference(model: nn.Module, images: Tensor, stages: int) -> nn.Module:
    """The model with merged branches, folded batch norms and fast depthwise convolutions, if outputs stay equal.

    Args:
        model: in eval mode; it is not changed.
        images: images for comparing outputs before and after each step. A step that fails, or alters the outputs, is
            left out with a warning.
        stages: number of feature maps that are compared as well.

    Example:
        >>> import timm, torch
        >>> from lkd.engine.teacher import optimise_for_inference
        >>> from lkd.models.folding import foldable_modules
        >>> model = optimise_for_inference(timm.create_model("mini_slak").eval(), torch.zeros(2, 3, 32, 32), stages=0)
        >>> foldable_modules(model)
        []
    """
    forward = _forward(images, stages)
    try:
        expected = output_tensors(model, forward)
    except Exception:  # the model does not take these images, which the caller reports
        return model
    if foldable_modules(model):
        try:
            model = merge_branches(model, forward, expected, "teacher")
        except ValueError as error:
            warnings.warn(f"{error}. The teacher runs unfolded: slower, with equal outputs", stacklevel=3)
    if not slow_depthwise(model):
        return model
    return _try_change(model, fast_depthwise, forward, expected, "lkd.ops.fast_depthwise")


def _forward(images: Tensor, stages: int) -> Forward:
    return lambda network: compute_outputs(network, images.to(device_of(network)), stages)


def _try_change(
    model: nn.Module, change: Callable[[nn.Module], nn.Module], forward: Forward, expected: list[Tensor], name: str
) -> nn.Module:
    """A changed copy of a teacher; the teacher itself, with a warning, if the change fails or alters its outputs."""
    try:
        made = change(copy.deepcopy(model))
        check_equal_outputs(output_tensors(made, forward), expected)
    except Exception as error:  # custom code may raise any error
        warnings.warn(
            f"{name} fails on the teacher, a {type(model).__name__} ({error}): it runs without it, slower, with equal "
            "outputs",
            stacklevel=4,
        )
        return model
    return made


class _Compiled:
    """`outputs`, compiled. The first batch is also computed without compilation, for comparison."""

    def __init__(self) -> None:
        self.forward, self.compared = torch.compile(compute_outputs), False

    def __call__(self, model: nn.Module, images: Tensor, stages: int) -> Outputs:
        if self.compared:
            return self.forward(model, images, stages)
        self.compared, plain = True, compute_outputs(model, images, stages)
        try:
            compiled = self.forward(model, images, stages)
            check_equal_outputs([compiled.logits, *compiled.maps], [plain.logits, *plain.maps])
        except Exception as error:  # a compiler may raise any error
            warnings.warn(
                f"torch.compile fails on the teacher, a {type(model).__name__} ({str(error).splitlines()[0]}): it runs "
                "without it, slower, with equal outputs",
                stacklevel=3,
            )
            self.forward = compute_outputs
            return plain
        return compiled


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
}


def __getattr__(name: str) -> Any:
    return renamed(__name__, name, _OLD_NAMES)
