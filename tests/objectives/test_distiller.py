"""Distillation in a loop of one's own: what the module trains, freezes, saves and refuses."""

import copy
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lkd
from lkd.engine.task import DistillationTask
from lkd.models import Ensemble, Normalized
from lkd.objectives import FD, NKD, Distiller, Objective, Outputs, kd_loss
from lkd.objectives.outputs import compute_outputs

pytestmark = pytest.mark.usefixtures("one_thread")

RNG = torch.Generator().manual_seed(0)
IMAGES, TARGET = torch.randn(8, 1, 32, 32, generator=RNG), torch.randint(0, 10, (8,), generator=RNG)


def network(name: str, classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, in_chans=1, num_classes=classes)


def plain(channels: int = 4) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, channels, 2, stride=4), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def distiller(objective: Any = "nkd", **given: Any) -> Distiller:
    return Distiller(network("mini_resnet"), network("mini_slak"), objective, images=IMAGES, **given)


def loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, weight: float = 1.0) -> dict[str, Tensor]:
    mse = F.mse_loss(student_logits, teacher_logits)
    return {"mse": weight * mse, "ce": F.cross_entropy(student_logits, target)}


# The loss -----------------------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_both_networks_logits() -> None:
    student, teacher = network("mini_resnet"), network("mini_slak").eval()
    total, terms, logits = Distiller(student, teacher, "kd", alpha=0.5, temperature=2.0)(IMAGES, TARGET)
    expected = student(IMAGES)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(total, kd_loss(expected, teacher(IMAGES), TARGET, alpha=0.5, temperature=2.0))
    assert terms.keys() == {"kd", "label"} and total == terms["kd"] + terms["label"]


def test_it_is_the_loss_of_the_engine() -> None:
    module = distiller("nkd+fd", normalize="channels")
    taught = DistillationTask(module.student, module.objective)
    teacher = module._teacher.outputs(IMAGES)
    assert taught(IMAGES, teacher, TARGET)["total"] == module(IMAGES, TARGET).total


def test_a_label_objective_needs_no_teacher() -> None:
    student = network("mini_resnet")
    module = Distiller(student, objective="label")
    assert module.teacher is None
    torch.testing.assert_close(module(IMAGES, TARGET).total, F.cross_entropy(student(IMAGES), TARGET))


@pytest.mark.parametrize("images", [IMAGES, None], ids=["folded", "as given"])
def test_the_teacher_sees_its_own_normalisation(images: Tensor | None) -> None:
    teacher = network("mini_slak").eval()
    module = Distiller(
        network("mini_resnet"),
        teacher,
        lambda student, teacher, target: {"teacher": teacher.sum(), "student": 0 * student.sum()},
        images=images,
        normalization=([0.2], [0.5]),
        teacher_normalization=([0.4], [0.1]),
    )
    expected = teacher((IMAGES * 0.5 + 0.2 - 0.4) / 0.1).sum()
    torch.testing.assert_close(module(IMAGES, TARGET).terms["teacher"], expected, rtol=1e-3, atol=1e-3)


def test_normalized_members_of_an_ensemble_see_their_own_normalisation() -> None:
    members = network("mini_slak").eval(), network("mini_convnext").eval()
    teacher = Ensemble([members[0], Normalized(members[1], [0.5], [0.25])])
    module = Distiller(network("mini_resnet"), teacher, "kd", normalization=([0.1], [0.3]), alpha=1.0)
    raw = IMAGES * 0.3 + 0.1
    with torch.no_grad():
        expected = (members[0](IMAGES).softmax(1) + members[1]((raw - 0.5) / 0.25).softmax(1)) / 2
    logits = module.student(IMAGES)
    torch.testing.assert_close(module(IMAGES, TARGET).total, kd_loss(logits, expected.log(), TARGET, alpha=1.0))
    with pytest.raises(ValueError, match="Normalized teacher has its own normalisation: give normalization="):
        Distiller(network("mini_resnet"), teacher, "kd")


@pytest.mark.parametrize("layers", [{}, {"student_layers": ["stages.2"], "teacher_layers": ["stages.2"]}])
def test_normalized_networks_have_the_feature_maps_and_layers_of_their_network(layers: dict[str, list[str]]) -> None:
    pixels, own, statistics = IMAGES * 0.3 + 0.1, ([0.5], [0.25]), ([0.1], [0.3])
    student, teacher = network("mini_resnet"), network("mini_slak").eval()
    wrapped = Distiller(student, Normalized(teacher, *own), "fd", images=IMAGES, normalization=statistics, **layers)
    assert wrapped._teacher is not None
    maps = tuple(layers["teacher_layers"]) if layers else 1
    with torch.no_grad():
        expected = compute_outputs(teacher, (pixels - 0.5) / 0.25, maps).maps[0]
    torch.testing.assert_close(wrapped._teacher.outputs(IMAGES).maps[0], expected, atol=1e-4, rtol=1e-4)
    Distiller(Normalized(student, *own), teacher, "fd", images=IMAGES, **layers)(IMAGES, TARGET).total.backward()


@pytest.mark.parametrize(
    ("objective", "parameters", "names"),
    [
        (NKD, {"gamma": 2.0}, {"target", "non_target"}),
        (NKD(label=1.0), {}, {"target", "non_target", "label"}),
        (loss, {"weight": 2.0}, {"mse", "ce"}),
        (kd_loss, {"alpha": 0.5}, {"kd_loss"}),
        (lambda student, teacher, target: F.mse_loss(student, teacher), {}, {"lambda"}),
    ],
    ids=["class", "instance", "function", "one of lkd's", "lambda"],
)
def test_an_objective_may_be_a_class_an_instance_or_a_function(
    objective: Any, parameters: dict[str, Any], names: set[str]
) -> None:
    total, terms, _ = distiller(objective, **parameters)(IMAGES, TARGET)
    assert terms.keys() == names
    torch.testing.assert_close(total, sum(terms.values()))


def test_a_loss_with_weights_of_its_own_is_trained() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
            return self.scale * F.mse_loss(student, teacher)

    scaled = Scaled()
    module = distiller(scaled)
    assert any(each is scaled.scale for each in module.trainable_parameters())


# What is trained ----------------------------------------------------------------------------------------------------


def test_student_and_projectors_are_trained_and_the_teacher_is_not() -> None:
    module = distiller("nkd+fd", stages=2)
    before = copy.deepcopy(module)
    optimizer = torch.optim.AdamW(module.trainable_parameters(), lr=1e-2)
    module(IMAGES, TARGET).total.backward()
    optimizer.step()
    changed = {name for name, value in module.named_parameters() if not torch.equal(value, before.get_parameter(name))}
    projectors = {name for name in changed if ".projectors." in name}
    assert len(projectors) == 4 and {"student.stem.conv.weight", "student.head.fc.bias"} < changed
    assert all(map(torch.equal, module.teacher.state_dict().values(), before.teacher.state_dict().values()))
    assert not any(parameter.requires_grad for parameter in module.teacher.parameters())


def test_the_teacher_given_is_left_as_it_was_and_the_student_is_the_one_given() -> None:
    student, teacher = network("mini_resnet").train(), network("mini_slak").train()
    module = Distiller(student, teacher, "fd", images=IMAGES)
    assert module.student is student and student.training and student.stem.bn.num_batches_tracked == 0
    assert teacher.training and all(parameter.requires_grad for parameter in teacher.parameters())


def test_the_teacher_stays_in_eval_mode_and_a_frozen_part_of_the_student_stays_frozen() -> None:
    module = distiller()
    module.train().requires_grad_(True)
    assert module.student.training and not any(each.training for each in module.teacher.modules())
    assert not any(parameter.requires_grad for parameter in module.teacher.parameters())
    module.student.stem.requires_grad_(False)
    kept = {id(parameter) for parameter in module.trainable_parameters()}
    assert kept.isdisjoint(map(id, module.student.stem.parameters())) and kept


def test_the_state_has_student_and_projectors_and_not_the_teacher() -> None:
    module, other = distiller("nkd+fd"), distiller("nkd+fd")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1)
    state = module.state_dict()
    inside = {name.partition(".")[0] for name in state}
    assert inside == {"student", "objective"} and any("projectors" in name for name in state)
    other.load_state_dict(state)
    assert torch.equal(other.eval()(IMAGES, TARGET).total, module.eval()(IMAGES, TARGET).total)


@pytest.mark.slow
def test_the_teacher_moves_with_the_module() -> None:
    outer = nn.Sequential(distiller("nkd+fd")).double()
    assert {parameter.dtype for parameter in outer[0].teacher.parameters()} == {torch.float64}
    assert outer[0](IMAGES.double(), TARGET).total.dtype == torch.float64
    assert next(outer.to("meta")[0].teacher.parameters()).is_meta


def test_timms_optimizers_know_what_has_no_weight_decay() -> None:
    module = Distiller(network("mini_vit"), network("mini_slak"))
    assert "student.pos_embed" in module.no_weight_decay()


# Layers by name -----------------------------------------------------------------------------------------------------


def test_named_layers_of_any_module_are_compared() -> None:
    student, teacher = plain(), plain(6).eval()
    module = Distiller(student, teacher, "fd", images=IMAGES, label=0.0, student_layers=["1"], teacher_layers=["2"])
    assert module.objective.projectors[0].weight.shape == (6, 4, 1, 1)
    expected = F.smooth_l1_loss(module.objective.projectors[0](student[:2](IMAGES)), teacher[:3](IMAGES), beta=2.0)
    torch.testing.assert_close(module(IMAGES, TARGET).total, expected)


def test_the_stages_of_one_network_are_compared_with_layers_of_the_other() -> None:
    module = Distiller(plain(), network("mini_slak"), "kd+fd", images=IMAGES, student_layers=["0", "1"])
    assert [each.out_channels for each in module.objective.addends[1].projectors] == [48, 96]


def test_the_last_layer_by_name_is_the_last_stage() -> None:
    torch.manual_seed(1)
    stages = distiller("fd")
    torch.manual_seed(1)
    layers = distiller(FD(student_layers=["stages.2"], teacher_layers=["stages.2"]))
    torch.testing.assert_close(layers(IMAGES, TARGET).total, stages(IMAGES, TARGET).total)


# What is refused ----------------------------------------------------------------------------------------------------


class Given(Objective):
    """An objective that needs no teacher."""

    needs_teacher = False

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        return {"given": student.logits.sum()}


class Wrapped(nn.Module):
    """A network that returns its logits in a dict."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": images.flatten(1)[:, :10]}


S, T, LAYERS = network("mini_resnet"), network("mini_slak"), {"student_layers": ["0"], "teacher_layers": ["stages.1"]}
WRONG: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "no teacher": ((S,), {}, ValueError, "objective 'nkd' needs a teacher, got teacher=None"),
    "a teacher for labels": ((S, T, "label"), {}, ValueError, "objective 'label' takes no teacher, got a SLaK"),
    "a teacher for nothing": ((S, T, Given), {}, ValueError, "objective 'Given' takes no teacher, got a SLaK"),
    "a name": (("mini_resnet", T), {}, TypeError, "student must be an nn.Module, got str"),
    "a teacher's name": ((S, "mini_slak"), {}, TypeError, "teacher must be an nn.Module, got str"),
    "classes": ((S, network("mini_slak", 7)), {}, ValueError, "student has 10 classes, teacher 7: give networks"),
    "logits in a dict": ((Wrapped(), T), {}, TypeError, "student must return logits, a tensor, got a dict: wrap it"),
    "a map": ((plain()[:3], T), {}, ValueError, r"student must return logits \(B, classes\), got shape"),
    "no images": ((S, T, "fd"), {"images": None}, ValueError, "objective 'fd' compares feature maps.*as images="),
    "images": (
        (S, T),
        {"images": [1]},
        TypeError,
        r"images must be a floating-point tensor.*, got a list",
    ),
    "integers": ((S, T), {"images": IMAGES.long()}, TypeError, r"images must be .*got torch.int64 \(8, 1, 32, 32\)"),
    "no maps": ((plain(), T, "fd"), {}, TypeError, "a Sequential has no feature maps: .*student_layers"),
    "stages": ((S, T, "fd"), {"stages": 9}, ValueError, "student has 3 feature maps, objective 'fd' needs 9"),
    "layer": (
        (S, T, "fd"),
        {"student_layers": ["stage.1"]},
        KeyError,
        "layer of student 'stage.1': did you mean",
    ),
    "a teacher's layer": ((S, T, "fd"), {"teacher_layers": ["x"]}, KeyError, "unknown layer of teacher 'x'"),
    "a word": ((S, T, "fd"), {"student_layers": "stem"}, TypeError, "student_layers must be a list of str, got 'stem'"),
    "pairs": ((S, T, "fd"), {**LAYERS, "student_layers": ["a", "b"]}, ValueError, "compared in pairs, got 2 and 1"),
    "both": ((S, T, "fd"), {**LAYERS, "stages": 2}, ValueError, "stages is 2, but 1 layers are named"),
    "objective": ((S, T, 3), {}, TypeError, "objective must be a name, one of label, .* an Objective, or a function"),
    "an unknown one": ((S, T, "nkdd"), {}, KeyError, "unknown objective 'nkdd': did you mean 'nkd'"),
    "parameter": ((S, T, "kd"), {"alhpa": 1}, TypeError, "parameter of objective 'kd' 'alhpa': did you mean 'alpha'"),
    "parameter of an instance": ((S, T, NKD()), {"gamma": 1}, TypeError, "has its parameters already, got gamma"),
    "parameter of a function": ((S, T, loss), {"wight": 1}, TypeError, "'loss' must be a function of .*'wight'"),
    "two arguments": (
        (S, T, lambda a, b: a),
        {},
        TypeError,
        "must be a function of .student_logits, teacher_log",
    ),
    "one statistic": ((S, T), {"normalization": ([0], [1])}, ValueError, "teacher_normalization is missing"),
    "no pair": (
        (S, T),
        {"normalization": 0.5, "teacher_normalization": ([0], [1])},
        TypeError,
        r"normalization must be \(mean, std\), each with a number per channel, got 0.5",
    ),
    "a std of 0": (
        (S, T),
        {"normalization": ([0], [1]), "teacher_normalization": ([0], [0])},
        ValueError,
        r"teacher_normalization must be .*std above 0",
    ),
    "normalisation of nobody": (
        (S, None, "label"),
        {"normalization": ([0], [1]), "teacher_normalization": ([0], [1])},
        ValueError,
        "normalization is for a teacher, and there is none",
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_wrong_use_is_refused_when_the_module_is_made(case: Any) -> None:
    arguments, given, error, message = case
    with pytest.raises(error, match=message):
        Distiller(*arguments, **{"images": IMAGES, **given})


@pytest.mark.parametrize(
    ("objective", "target", "error", "message"),
    [
        ("nkd", TARGET[:, None], ValueError, r"a hard target must be \(8,\) for these logits, got shape \(8, 1\)"),
        ("nkd", TARGET + 9, ValueError, "target must hold labels 0..9"),
        (lambda s, t, y: 3.0, TARGET, TypeError, "must return scalar tensors, got a float for term 'lambda'"),
        (lambda s, t, y: {"a": s}, TARGET, TypeError, r"got shape \(8, 10\) for term 'a'"),
        (lambda s, t, y: {"total": s.sum()}, TARGET, ValueError, r"terms without their sum, got \['total'\]"),
    ],
)
def test_a_target_or_loss_that_does_not_fit_is_refused(
    objective: Any, target: Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        distiller(objective)(IMAGES, target)


def test_without_example_images_classes_are_compared_in_the_first_batch() -> None:
    module = Distiller(network("mini_resnet"), network("mini_slak", 7))
    with pytest.raises(ValueError, match="student has 10 classes, teacher 7: give networks for the same classes"):
        module(IMAGES, TARGET)


def test_it_is_offered_where_the_objectives_are() -> None:
    assert lkd.objectives.Distiller is Distiller
