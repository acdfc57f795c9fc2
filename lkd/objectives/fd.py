"""FD: feature distillation (Wei et al. 2022, arXiv 2205.14141), as in the original code and in SLaK's."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkd.objectives.base import Objective, Outputs
from lkd.objectives.inputs import check_map, check_maps, check_option
from lkd.objectives.label import weighted_label
from lkd.objectives.tensors import upcast
from lkd.util.checks import check_list, check_number, check_whole

NORMALIZE = ("none", "channels", "chw")
KIND = ("smooth_l1", "mse")


def fd_loss(
    student_map: Tensor, teacher_map: Tensor, *, normalize: str = "none", kind: str = "smooth_l1", beta: float = 2.0
) -> Tensor:
    r"""Distance of two feature maps, `mean over B, C, H, W of l(F_s - norm(F_t))`.

    Smooth L1 is `d^2 / (2 beta)` for `|d| < beta` and `|d| - beta / 2` beyond; "mse" is `d^2`. Only the teacher's map
    is normalised: "channels" is a layer norm over C at each position, "chw" over C, H and W, both with eps 1e-5 and
    without affine weights. The original (SwinTransformer/Feature-Distillation, `feature_distillation.py`) uses
    "channels". SLaK's release (`engine_kd.py`) uses "none": its flag for "chw" builds norms but does not apply them.

    Args:
        student_map: `(B, C, H, W)` float, already projected to the teacher's channels and size.
        teacher_map: `(B, C, H, W)` float; no gradient flows into it.
        normalize: "none", "channels" or "chw".
        kind: "smooth_l1" or "mse".
        beta: width of the quadratic zone of smooth L1, above 0; no effect on "mse".

    Returns:
        A scalar, float32 (float64 for float64 maps).

    Raises:
        TypeError, ValueError: a dtype, shape or value other than those above.
        KeyError: an unknown `normalize` or `kind`, with the nearest known one.

    Example:
        >>> import torch
        >>> from lkd.objectives import fd_loss
        >>> student, teacher = torch.zeros(1, 2, 1, 1), torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1)
        >>> fd_loss(student, teacher).item()
        1.125
    """
    _check(normalize, kind, beta)
    check_maps(student_map, teacher_map)
    distance = partial(F.smooth_l1_loss, beta=beta) if kind == "smooth_l1" else F.mse_loss
    return distance(upcast(student_map), _normalised(upcast(teacher_map.detach()), normalize))


class Features(Objective):
    """`weight` times the mean of `fd_loss` over the last `stages` stages, without a label term.

    Each of these stages has a projector, a 1x1 convolution with bias from the student's channels to the teacher's, in
    float32 (also under autocast; float64 for float64 maps). `connect` creates the projectors on the device of the given
    maps, with PyTorch's initialisation and global generator: seed it before. If the sizes differ, the projected map is
    resized to the teacher's by nearest neighbour, as in SLaK's release. `stages` counts from the last stage; networks
    with fewer maps are refused. `student_layers` and `teacher_layers` name modules, `["layer3.1"]` for example, whose
    outputs are compared in this order, in place of the last stages; if only one network's are named, the other one's
    last stages are taken, as many. Report `weight`, `normalize`, `kind`, `beta` and the stages or layers with a result:
    publications differ in all of them.

    Example:
        >>> import torch
        >>> from lkd.objectives import FD, Outputs
        >>> student = Outputs(torch.zeros(2, 5), (torch.zeros(2, 8, 4, 4),))
        >>> teacher = Outputs(torch.zeros(2, 5), (torch.zeros(2, 16, 2, 2),))
        >>> objective = FD(normalize="channels")
        >>> objective.connect(student, teacher)
        >>> sorted(objective(student, teacher, torch.tensor([0, 1])))
        ['fd', 'label', 'total']
    """

    def __init__(
        self,
        normalize: str = "none",
        kind: str = "smooth_l1",
        beta: float = 2.0,
        stages: int = 1,
        weight: float = 1.0,
        student_layers: Sequence[str] = (),
        teacher_layers: Sequence[str] = (),
    ):
        super().__init__()
        _check(normalize, kind, beta)
        check_number("weight", weight, 0)
        self.normalize, self.kind, self.beta, self.weight = normalize, kind, beta, weight
        self.stages = _number_of_maps(stages, student_layers, teacher_layers)
        self.student_layers, self.teacher_layers = tuple(student_layers), tuple(teacher_layers)
        self.projectors = nn.ModuleList()

    def connect(self, student: Outputs, teacher: Outputs) -> None:
        """Create new projectors from the student's to the teacher's channels.

        Raises:
            TypeError, ValueError: too few maps, or a map that is not a float `(B, c, h, w)`.
        """
        self.projectors = nn.ModuleList(_projector(s, t) for s, t in self._pairs(student, teacher))

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """Term `fd`, the mean over the stages.

        Raises:
            RuntimeError: `connect` was not called.
            TypeError, ValueError: too few maps, or other channels than in `connect`.
        """
        if not self.projectors:
            raise RuntimeError(f"{type(self).__name__} has no projectors yet: call connect(student, teacher) first")
        distance = partial(fd_loss, normalize=self.normalize, kind=self.kind, beta=self.beta)
        pairs = zip(self.projectors, self._pairs(student, teacher), strict=True)
        losses = [distance(_projected(projector, s, t), t) for projector, (s, t) in pairs]
        return {"fd": self.weight * torch.stack(losses).mean()}

    def _pairs(self, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
        """The student's and the teacher's maps of the last stages."""
        for owner, maps in (("student", student.maps), ("teacher", teacher.maps)):
            if len(maps) < self.stages:
                raise ValueError(f"stages={self.stages} needs {self.stages} maps, got {len(maps)} of the {owner}")
            for feature_map in maps[-self.stages :]:
                check_map(f"{owner}_map", feature_map)
        return list(zip(student.maps[-self.stages :], teacher.maps[-self.stages :], strict=True))


class FD(Features):
    """FD as an objective: `Features` plus `label` times the cross-entropy; the original uses no labels, `label=0`."""

    def __init__(
        self,
        normalize: str = "none",
        kind: str = "smooth_l1",
        beta: float = 2.0,
        stages: int = 1,
        weight: float = 1.0,
        label: float = 1.0,
        student_layers: Sequence[str] = (),
        teacher_layers: Sequence[str] = (),
    ):
        super().__init__(normalize, kind, beta, stages, weight, student_layers, teacher_layers)
        check_number("label", label, 0)
        self.label = label

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """Terms `fd` and, if its weight is not 0, `label`."""
        return {**super().terms(student, teacher, target), **weighted_label(self.label, student.logits, target)}


def _check(normalize: str, kind: str, beta: float) -> None:
    check_option("normalize", normalize, NORMALIZE)
    check_option("kind", kind, KIND)
    check_number("beta", beta, 0, above=True)


def _number_of_maps(stages: int, student_layers: Sequence[str], teacher_layers: Sequence[str]) -> int:
    """The number of maps to compare: that of the named layers, or else of the stages."""
    check_whole("stages", stages, 1)
    named = {"student_layers": student_layers, "teacher_layers": teacher_layers}
    for name, layers in named.items():
        if layers != () and layers != []:
            check_list(name, layers, str)
    counts = {len(layers) for layers in named.values() if layers}
    if len(counts) > 1:
        raise ValueError(
            f"student_layers and teacher_layers are compared in pairs, got {len(student_layers)} and "
            f"{len(teacher_layers)}: name as many of one as of the other"
        )
    count = counts.pop() if counts else stages
    if stages not in (1, count):
        raise ValueError(f"stages is {stages}, but {count} layers are named, which stand in its place: leave it out")
    return count


def _normalised(feature_map: Tensor, normalize: str) -> Tensor:
    if normalize == "chw":
        return F.layer_norm(feature_map, feature_map.shape[1:], eps=1e-5)
    if normalize == "channels":
        return F.layer_norm(feature_map.movedim(1, -1), feature_map.shape[1:2], eps=1e-5).movedim(-1, 1)
    return feature_map


def _projector(student_map: Tensor, teacher_map: Tensor) -> nn.Conv2d:
    dtype = torch.promote_types(student_map.dtype, torch.float32)
    return nn.Conv2d(student_map.shape[1], teacher_map.shape[1], 1, device=student_map.device, dtype=dtype)


def _projected(projector: nn.Module, student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Project the student's map to the teacher's channels and size."""
    channels, connected = (student_map.shape[1], teacher_map.shape[1]), (projector.in_channels, projector.out_channels)
    if channels != connected:
        raise ValueError(f"student and teacher maps must have {connected} channels, as in connect, got {channels}")
    with torch.autocast(student_map.device.type, enabled=False):
        projected = projector(upcast(student_map))
    size = teacher_map.shape[2:]
    return projected if projected.shape[2:] == size else F.interpolate(projected, size=size, mode="nearest")
