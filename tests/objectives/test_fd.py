"""FD against its formula, in loops over Python floats, and its projectors in the training loop."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from plain_losses import gradient, plain_fd
from torch import Tensor, nn

from lkd.objectives import FD, Features, Outputs, fd_loss, label_loss

LABEL = torch.tensor([3, 0])


def maps(
    *shapes: tuple[int, ...], scale: float = 2.0, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(seed)
    return tuple((scale * torch.randn(shape, dtype=torch.float64, generator=rng)).to(dtype) for shape in shapes)


def outputs(*feature_maps: Tensor) -> Outputs:
    return Outputs(torch.zeros(2, 5), feature_maps)


def connected(student: Outputs, teacher: Outputs, **numbers: Any) -> FD:
    objective = FD(**numbers)
    objective.connect(student, teacher)
    return objective


every_norm = pytest.mark.parametrize("normalize", ["none", "channels", "chw"])
every_kind = pytest.mark.parametrize(("kind", "beta"), [("smooth_l1", 2.0), ("smooth_l1", 0.5), ("mse", 2.0)])


# The loss -----------------------------------------------------------------------------------------------------------


@every_norm
@every_kind
def test_fd_is_its_formula(normalize: str, kind: str, beta: float) -> None:
    student, teacher = maps((2, 5, 3, 4), (2, 5, 3, 4))
    expected = plain_fd(student.flatten(2).tolist(), teacher.flatten(2).tolist(), normalize, kind, beta)
    actual = fd_loss(student, teacher, normalize=normalize, kind=kind, beta=beta)
    assert actual.item() == pytest.approx(expected, 1e-12)


@every_kind
def test_gradient_of_fd(kind: str, beta: float) -> None:
    student, teacher = maps((2, 5, 3, 4), (2, 5, 3, 4))
    d = student - teacher
    slope = 2 * d if kind == "mse" else (d / beta).clamp(-1, 1)
    actual = gradient(fd_loss, student, teacher, kind=kind, beta=beta)
    torch.testing.assert_close(actual, slope / d.numel(), rtol=1e-12, atol=0)


def test_defaults_are_those_of_the_released_code() -> None:
    student, teacher = maps((2, 5, 3, 4), (2, 5, 3, 4))
    assert fd_loss(student, teacher) == F.smooth_l1_loss(student, teacher, beta=2.0)


def test_within_beta_it_is_a_quarter_of_the_squared_error_and_beyond_a_line() -> None:
    teacher = torch.zeros(1, 1, 1, 1)
    for d in (0.0, 0.5, -1.9):
        assert fd_loss(teacher + d, teacher).item() == pytest.approx(d**2 / 4)
        assert fd_loss(teacher + d, teacher, kind="mse").item() == pytest.approx(d**2)
    for d in (2.0, -7.0, 1e4):
        assert fd_loss(teacher + d, teacher).item() == pytest.approx(abs(d) - 1)


@pytest.mark.parametrize(("normalize", "dims"), [("channels", 1), ("chw", (1, 2, 3))])
def test_norms_take_the_teachers_mean_and_scale_away_and_not_the_students(
    normalize: str, dims: int | tuple[int, ...]
) -> None:
    student, teacher = maps((2, 5, 3, 4), (2, 5, 3, 4))
    moved = 7 * teacher + 100
    torch.testing.assert_close(
        fd_loss(student, moved, normalize=normalize), fd_loss(student, teacher, normalize=normalize), rtol=1e-4, atol=0
    )
    assert fd_loss(student + 1, teacher, normalize=normalize) != fd_loss(student, teacher, normalize=normalize)
    centred = teacher - teacher.mean(dims, keepdim=True)
    normal = centred / (teacher.var(dims, correction=0, keepdim=True) + 1e-5).sqrt()
    assert fd_loss(normal, teacher, normalize=normalize) < 1e-20


def test_the_two_norms_differ() -> None:
    student, teacher = maps((2, 5, 3, 4), (2, 5, 3, 4))
    assert (fd_loss(student, teacher, normalize="chw") - fd_loss(student, teacher, normalize="channels")).abs() > 0.01


@every_norm
def test_only_the_student_gets_a_gradient_and_nothing_is_changed(normalize: str) -> None:
    student, teacher = (feature_map.requires_grad_() for feature_map in maps((2, 5, 3, 4), (2, 5, 3, 4)))
    before = student.detach().clone(), teacher.detach().clone()
    fd_loss(student, teacher, normalize=normalize).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None
    assert torch.equal(student, before[0]) and torch.equal(teacher, before[1])


@every_norm
@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_maps_of_low_precision_give_a_finite_float32(
    normalize: str, kind: str, beta: float, dtype: torch.dtype
) -> None:
    student, teacher = (m.clamp(-6e4, 6e4).to(dtype) for m in maps((2, 5, 3, 4), (2, 5, 3, 4), scale=3e4))
    student.requires_grad_()
    value = fd_loss(student, teacher, normalize=normalize, kind=kind, beta=beta)
    value.backward()
    exact = fd_loss(student.double(), teacher.double(), normalize=normalize, kind=kind, beta=beta)
    assert value.dtype == torch.float32 and exact.dtype == torch.float64
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)
    assert student.grad.dtype == dtype and student.grad.isfinite().all()


# The projectors -----------------------------------------------------------------------------------------------------


def test_projectors_take_the_shape_of_the_maps() -> None:
    student, teacher = outputs(*maps((2, 4, 8, 8), (2, 6, 4, 4))), outputs(*maps((2, 5, 7, 7), (2, 9, 7, 7)))
    objective = connected(student, teacher, stages=2)
    shapes = {name: tuple(weight.shape) for name, weight in objective.state_dict().items()}
    assert shapes == {
        "projectors.0.weight": (5, 4, 1, 1),
        "projectors.0.bias": (5,),
        "projectors.1.weight": (9, 6, 1, 1),
        "projectors.1.bias": (9,),
    }
    assert {weight.dtype for weight in objective.parameters()} == {torch.float64}
    half = outputs(*(m.half() for m in student.maps))
    assert {weight.dtype for weight in connected(half, teacher, stages=2).parameters()} == {torch.float32}


def test_connecting_again_makes_new_projectors() -> None:
    small, large = outputs(*maps((2, 4, 8, 8))), outputs(*maps((2, 6, 4, 4)))
    objective = connected(small, large)
    objective.connect(large, small)
    assert [tuple(weight.shape) for weight in objective.parameters()] == [(4, 6, 1, 1), (4,)]


@pytest.mark.parametrize("sides", [(4, 4), (4, 8), (8, 4), (4, 7)])
def test_a_map_is_projected_and_resized_to_the_nearest_neighbour(sides: tuple[int, int]) -> None:
    student, teacher = maps((2, 4, sides[0], sides[0]), (2, 6, sides[1], sides[1]))
    objective = connected(outputs(student), outputs(teacher), normalize="channels", label=0.0)
    projector = objective.projectors[0]
    rows = torch.tensor([i * sides[0] // sides[1] for i in range(sides[1])])
    projected = torch.einsum("oi,bihw->bohw", projector.weight[:, :, 0, 0], student) + projector.bias[:, None, None]
    expected = fd_loss(projected[:, :, rows][:, :, :, rows], teacher, normalize="channels")
    torch.testing.assert_close(objective(outputs(student), outputs(teacher), LABEL)["total"], expected)


def test_the_last_stages_count_by_their_mean() -> None:
    student, teacher = maps((2, 3, 8, 8), (2, 4, 4, 4), (2, 6, 2, 2)), maps((2, 5, 4, 4), (2, 7, 2, 2), seed=1)
    objective = connected(outputs(*student), outputs(*teacher), stages=2, weight=0.5, label=0.0)
    assert objective.stages == 2
    single = [
        fd_loss(F.interpolate(projector(s), t.shape[2:]), t)
        for projector, s, t in zip(objective.projectors, student[1:], teacher, strict=True)
    ]
    terms = objective(outputs(*student), outputs(*teacher), LABEL)
    torch.testing.assert_close(terms["fd"], 0.5 * (single[0] + single[1]) / 2)


def test_student_and_projectors_get_gradients_and_the_teacher_none() -> None:
    student, teacher = (m.requires_grad_() for m in maps((2, 4, 4, 4), (2, 6, 2, 2), dtype=torch.float32))
    objective = connected(outputs(student), outputs(teacher), normalize="chw")
    objective(outputs(student), outputs(teacher), LABEL)["total"].backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None
    assert all(weight.grad.abs().sum() > 0 for weight in objective.projectors.parameters())


def test_training_the_projector_alone_brings_equal_features_together() -> None:
    torch.manual_seed(0)
    (student,) = maps((2, 4, 3, 3), dtype=torch.float32)
    teacher = outputs(student.flip(1) + 1)
    objective = connected(outputs(student), teacher, label=0.0)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        objective(outputs(student), teacher, LABEL)["total"].backward()
        optimizer.step()
    assert objective(outputs(student), teacher, LABEL)["total"] < 1e-3


def test_the_label_is_added_once_with_its_weight() -> None:
    student, teacher = maps((2, 4, 4, 4), (2, 6, 2, 2), dtype=torch.float32)
    logits = torch.tensor([[2.0, 0, 0, 1, 0], [0, 1, 0, 0, 0]])
    terms = connected(outputs(student), outputs(teacher), label=0.5)(
        Outputs(logits, (student,)), outputs(teacher), LABEL
    )
    torch.testing.assert_close(terms["label"], 0.5 * label_loss(logits, LABEL))
    torch.testing.assert_close(terms["total"], terms["fd"] + terms["label"])
    assert FD().label == FD().weight == Features().weight == 1.0
    assert "label" not in connected(outputs(student), outputs(teacher), label=0.0)(
        outputs(student), outputs(teacher), LABEL
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_maps_of_low_precision_are_projected_in_float32_under_autocast_too(dtype: torch.dtype) -> None:
    student, teacher = (m.clamp(-6e4, 6e4).to(dtype) for m in maps((2, 64, 4, 4), (2, 6, 2, 2), scale=3e4))
    objective = connected(outputs(student), outputs(teacher), label=0.0)
    nn.init.constant_(objective.projectors[0].weight, 10.0)
    outside = objective(outputs(student), outputs(teacher), LABEL)["total"]
    with torch.autocast("cpu", torch.bfloat16):
        inside = objective(outputs(student), outputs(teacher), LABEL)["total"]
    assert outside.dtype == torch.float32 and outside.isfinite() and inside == outside
    exact = objective.double()(outputs(student.double()), outputs(teacher.double()), LABEL)["total"]
    torch.testing.assert_close(outside.double(), exact, rtol=1e-5, atol=0)


def test_projectors_are_saved_and_loaded() -> None:
    student, teacher = (outputs(m) for m in maps((2, 4, 4, 4), (2, 6, 2, 2)))
    saved, fresh = connected(student, teacher), connected(student, teacher)
    assert fresh(student, teacher, LABEL)["fd"] != saved(student, teacher, LABEL)["fd"]
    fresh.load_state_dict(saved.state_dict())
    assert fresh(student, teacher, LABEL)["fd"] == saved(student, teacher, LABEL)["fd"]


# Invalid inputs -----------------------------------------------------------------------------------------------------

MAP = torch.zeros(2, 4, 3, 3)


@pytest.mark.parametrize(
    ("student", "teacher", "error", "message"),
    [
        (None, MAP, TypeError, "student_map.*NoneType"),
        (MAP.long(), MAP, TypeError, "student_map.*torch.int64"),
        (MAP, MAP.long(), TypeError, "teacher_map.*torch.int64"),
        (MAP.flatten(2), MAP, ValueError, r"student_map.*\(B, C, H, W\).*\(2, 4, 9\)"),
        (MAP, MAP[0], ValueError, r"teacher_map.*\(B, C, H, W\).*\(4, 3, 3\)"),
        (MAP, MAP[:1], ValueError, r"teacher_map.*\(2, 4, 3, 3\).*\(1, 4, 3, 3\)"),
        (MAP[:0], MAP[:0], ValueError, r"student_map.*empty"),
    ],
)
def test_wrong_maps_are_refused_by_name(student: Tensor, teacher: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fd_loss(student, teacher)


def test_terms_before_connect_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"FD has no projectors.*connect"):
        FD()(outputs(MAP), outputs(MAP), LABEL)


def test_too_few_or_wrong_maps_are_refused_in_connect_and_in_use() -> None:
    two, one, none, flat = outputs(MAP, MAP), outputs(MAP), outputs(), outputs(MAP, MAP.flatten(2))
    objective = connected(two, two, stages=2)
    for use in (objective.connect, lambda student, teacher: objective(student, teacher, LABEL)):
        with pytest.raises(ValueError, match=r"stages=2.*got 1 of the student"):
            use(one, two)
        with pytest.raises(ValueError, match=r"stages=2.*got 0 of the teacher"):
            use(two, none)
        with pytest.raises(ValueError, match=r"student_map.*\(B, C, H, W\).*\(2, 4, 9\)"):
            use(flat, two)
        with pytest.raises(ValueError, match=r"teacher_map.*\(B, C, H, W\).*\(2, 4, 9\)"):
            use(two, flat)


def test_maps_that_are_not_those_of_connect_are_refused() -> None:
    objective = connected(outputs(MAP), outputs(MAP))
    for student, teacher in ((MAP, MAP[:, :3]), (MAP[:, :3], MAP)):
        with pytest.raises(ValueError, match=r"\(4, 4\) channels, as in connect, got \((4, 3|3, 4)\)"):
            objective(outputs(student), outputs(teacher), LABEL)
