"""Frozen networks: teachers in eval mode, without gradients, with their own normalisation of the student's images."""

import copy
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lkd.models.folding import foldable_modules, merge_branches
from lkd.models.inference import Forward, check_equal_outputs, device_of, output_tensors, set_eval_mode
from lkd.models.normalization import Normalization, expect_normalization
from lkd.objectives.base import Maps, Outputs
from lkd.objectives.outputs import compute_outputs
from lkd.ops import fast_depthwise, slow_depthwise
from lkd.util.checks import some


class FrozenNetwork:
    """A teacher that sees the student's images: in eval mode, without gradients, in its fastest exact form.

    Args:
        model: images `(B, C, H, W)` to logits; a copy of its own, which is changed. It gets folded batch norms and fast
            depthwise convolutions, if its outputs on `trial` stay equal; otherwise there is a warning. `Normalized`
            networks get the images with their own normalisation.
        trial: a few of the student's images; None leaves the model in its form.
        given: normalisation of the student's images.
        stages: feature maps to return, see `lkd.objectives.outputs.compute_outputs`.

    Example:
        >>> import timm, torch
        >>> from lkd.models.normalization import Normalization
        >>> from lkd.objectives.frozen import FrozenNetwork
        >>> model = timm.create_model("mini_slak")
        >>> teacher = FrozenNetwork(model, torch.zeros(2, 3, 32, 32), Normalization((0.5,), (0.5,)))
        >>> teacher.outputs(torch.zeros(4, 3, 32, 32)).logits.requires_grad
        False
    """

    def __init__(self, model: nn.Module, trial: Tensor | None, given: Normalization, stages: Maps = 0):
        self.stages, self.trial = stages, trial
        self.forward: Callable[[nn.Module, Tensor, Maps], Outputs] = compute_outputs
        self.model = set_eval_mode(expect_normalization(model, given))
        if left := [name or type(model).__name__ for name, module in model.named_modules() if module.training]:
            warnings.warn(f"teacher's eval() leaves {some(left)} in training mode: its outputs may vary", stacklevel=3)
        if trial is not None:
            self.model = set_eval_mode(optimise_for_inference(self.model, trial, stages))
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def outputs(self, images: Tensor) -> Outputs:
        """Logits and maps for the student's images, without gradients. A copy, since a teacher may change its input."""
        with torch.no_grad():
            return self.forward(self.model, images.clone(), self.stages)

    def to_channels_last(self) -> None:
        """Convert the weights to channels-last memory format, unless that fails or changes outputs (with a warning)."""
        assert self.trial is not None
        forward = _forward(self.trial, self.stages)

        def change(model: nn.Module) -> nn.Module:
            return model.to(memory_format=torch.channels_last)

        self.model = _try_change(self.model, change, forward, output_tensors(self.model, forward), "channels_last")

    def compile(self) -> None:
        """Compile the forward pass, unless that fails on the first batch or changes its outputs (with a warning)."""
        self.forward = _Compiled()


def optimise_for_inference(model: nn.Module, images: Tensor, stages: Maps) -> nn.Module:
    """The teacher with merged branches, folded batch norms and fast depthwise convolutions, where that is exact.

    Args:
        model: in eval mode; it is not changed.
        images: images for comparing outputs before and after each step. A step that fails, or alters the outputs, is
            left out with a warning.
        stages: feature maps that are compared as well.

    Example:
        >>> import timm, torch
        >>> from lkd.objectives.frozen import optimise_for_inference
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


def _forward(images: Tensor, stages: Maps) -> Forward:
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

    def __call__(self, model: nn.Module, images: Tensor, stages: Maps) -> Outputs:
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
