"""Invalid inputs of the losses; messages name the argument, its value and the expected one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lkd.objectives import (
    DIST,
    DKD,
    FD,
    KD,
    NKD,
    OBJECTIVES,
    Label,
    Objective,
    Vanilla,
    dist_loss,
    dkd_loss,
    fd_loss,
    kd_loss,
    label_loss,
    nkd_loss,
    vanilla_kd_loss,
)

GOOD = {"student_logits": torch.zeros(4, 3), "teacher_logits": torch.zeros(4, 3), "target": torch.tensor([0, 1, 2, 0])}
NAN = torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, float("nan"), 0], [0, 0, 0]])
THIRDS = torch.full((4, 3), 1 / 3)

WRONG = {
    "a list of labels": ({"target": [0, 1, 2, 0]}, TypeError, "target.*list"),
    "labels as int32": ({"target": torch.zeros(4, dtype=torch.int32)}, TypeError, "target.*int64.*torch.int32"),
    "labels as bool": ({"target": torch.zeros(4, dtype=torch.bool)}, TypeError, "target.*torch.bool"),
    "one label too few": ({"target": torch.tensor([0, 1, 2])}, ValueError, r"target.*\(4,\).*\(3,\)"),
    "labels in a column": ({"target": torch.zeros(4, 1, dtype=torch.int64)}, ValueError, r"target.*\(4,\).*\(4, 1\)"),
    "a label above": ({"target": torch.tensor([0, 1, 3, 0])}, ValueError, "target.*0..2.*to 3"),
    "a label below": ({"target": torch.tensor([0, -100, 2, 0])}, ValueError, "target.*0..2.*from -100"),
    "soft target too wide": ({"target": torch.full((4, 4), 0.25)}, ValueError, r"target.*\(4, 3\).*\(4, 4\)"),
    "soft target too short": ({"target": THIRDS[:1]}, ValueError, r"target.*\(4, 3\).*\(1, 3\)"),
    "labels as floats": ({"target": torch.zeros(4)}, ValueError, r"target.*\(4,\)"),
    "logits as target": ({"target": 9 * THIRDS}, ValueError, "target.*sum to 1"),
    "a negative share": ({"target": torch.tensor([[1.5, -0.5, 0.0]] * 4)}, ValueError, "target.*negative"),
    "NaN in a soft target": ({"target": NAN}, ValueError, "target.*finite.*nan.*row 2"),
    "student of integers": ({"student_logits": torch.zeros(4, 3).long()}, TypeError, "student_logits.*torch.int64"),
    "student of NumPy": ({"student_logits": torch.zeros(4, 3).numpy()}, TypeError, "student_logits.*ndarray"),
    "student in a row": ({"student_logits": torch.zeros(12)}, ValueError, r"student_logits.*\(B, C\).*\(12,\)"),
    "student maps": ({"student_logits": torch.zeros(4, 3, 1, 1)}, ValueError, r"student_logits.*\(4, 3, 1, 1\)"),
    "NaN in the student": ({"student_logits": NAN}, ValueError, "student_logits.*finite.*nan.*row 2"),
    "infinity": ({"student_logits": torch.full((4, 3), torch.inf)}, ValueError, "student_logits.*finite.*inf.*row 0"),
    "one class": (
        {name: torch.zeros(4, 1) for name in ("student_logits", "teacher_logits")} | {"target": torch.zeros(4).long()},
        ValueError,
        r"student_logits.*2 classes.*\(4, 1\)",
    ),
    "empty batch": (
        {name: torch.zeros(0, 3) for name in ("student_logits", "teacher_logits")} | {"target": torch.zeros(0).long()},
        ValueError,
        r"student_logits.*empty.*\(0, 3\)",
    ),
}
WRONG_TEACHER = {
    "no teacher": ({"teacher_logits": None}, TypeError, "teacher_logits.*NoneType"),
    "teacher of integers": ({"teacher_logits": torch.zeros(4, 3).long()}, TypeError, "teacher_logits.*torch.int64"),
    "teacher of more classes": (
        {"teacher_logits": torch.zeros(4, 5)},
        ValueError,
        r"teacher_logits.*\(4, 3\).*\(4, 5\)",
    ),
    "teacher that would broadcast": ({"teacher_logits": torch.zeros(1, 3)}, ValueError, r"teacher_logits.*\(1, 3\)"),
    "NaN in the teacher": ({"teacher_logits": NAN}, ValueError, "teacher_logits.*finite.*nan.*row 2"),
}


@pytest.mark.parametrize("loss", [kd_loss, nkd_loss, dkd_loss, vanilla_kd_loss])
@pytest.mark.parametrize(("change", "error", "message"), (WRONG | WRONG_TEACHER).values(), ids=WRONG | WRONG_TEACHER)
def test_wrong_tensors_are_refused_by_name(
    loss: Callable[..., Tensor], change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        loss(**(GOOD | change))


WRONG_LOGITS = {name: case for name, case in (WRONG | WRONG_TEACHER).items() if case[0].keys() != {"target"}}


@pytest.mark.parametrize(("change", "error", "message"), WRONG_LOGITS.values(), ids=WRONG_LOGITS)
def test_a_loss_without_a_target_refuses_the_same(change: dict[str, Any], error: type[Exception], message: str) -> None:
    given = GOOD | change
    with pytest.raises(error, match=message):
        dist_loss(given["student_logits"], given["teacher_logits"])


@pytest.mark.parametrize(("change", "error", "message"), WRONG.values(), ids=WRONG)
def test_the_label_loss_refuses_the_same(change: dict[str, Any], error: type[Exception], message: str) -> None:
    given = GOOD | change
    with pytest.raises(error, match=message):
        label_loss(given["student_logits"], given["target"])


def test_rounded_shares_of_low_precision_are_taken() -> None:
    shares = torch.full((4, 1000), 0.1 / 1000)
    shares[:, 7] += 0.9
    for dtype in (torch.float16, torch.bfloat16):
        assert label_loss(torch.zeros(4, 1000), shares.to(dtype)).item() == pytest.approx(6.908, rel=0.01)


NUMBERS = [
    *(("temperature", value, ValueError) for value in (0, -1.0, float("inf"), float("nan"))),
    *(("temperature", value, TypeError) for value in ("3", True, None, torch.tensor(3.0))),
]
ALPHAS = [("alpha", value, ValueError) for value in (-0.1, 1.1, float("nan"))] + [("alpha", False, TypeError)]
PAIR = {name: GOOD[name] for name in ("student_logits", "teacher_logits")}
MAPS = {"student_map": torch.zeros(2, 3, 4, 4), "teacher_map": torch.zeros(2, 3, 4, 4)}


def weights(*names: str) -> list[tuple[str, Any, type[Exception]]]:
    return [
        (name, *case)
        for name in names
        for case in ((-0.1, ValueError), (float("inf"), ValueError), ("1", TypeError), (True, TypeError))
    ]


@pytest.mark.parametrize(
    ("loss", "given", "objective", "name", "value", "error"),
    [
        *((kd_loss, GOOD, KD, *case) for case in NUMBERS + ALPHAS),
        *((nkd_loss, GOOD, NKD, *case) for case in NUMBERS + weights("gamma")),
        *((dkd_loss, GOOD, DKD, *case) for case in NUMBERS + weights("alpha", "beta")),
        *((dist_loss, PAIR, DIST, *case) for case in NUMBERS + weights("beta", "gamma")),
        *((fd_loss, MAPS, FD, *case) for case in [*weights("beta"), ("beta", 0.0, ValueError)]),
    ],
)
def test_wrong_numbers_are_refused_by_name_before_any_step(
    loss: Callable[..., Tensor],
    given: dict[str, Any],
    objective: type[Objective],
    name: str,
    value: Any,
    error: type[Exception],
) -> None:
    with pytest.raises(error, match=f"{name} must be"):
        loss(**given, **{name: value})
    with pytest.raises(error, match=f"{name} must be"):
        objective(**{name: value})


@pytest.mark.parametrize(
    ("objective", "name", "value", "error"),
    [
        *((objective, *case) for objective in (NKD, DKD, DIST, FD) for case in weights("label")),
        *((FD, *case) for case in weights("weight")),
        *((FD, "stages", value, ValueError) for value in (0, -1)),
        *((FD, "stages", value, TypeError) for value in (1.0, "1", True)),
    ],
)
def test_wrong_numbers_of_an_objective_are_refused_by_name(
    objective: type[Objective], name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"{name} must be"):
        objective(**{name: value})


CHOICES = [
    (label_loss, {name: GOOD[name] for name in ("student_logits", "target")}, Label, "hard", "bec", "bce"),
    (vanilla_kd_loss, GOOD, Vanilla, "hard", "bbce", "bce"),
    (None, None, DKD, "hard", "CE", None),
    (None, None, DIST, "hard", 1, None),
    (fd_loss, MAPS, FD, "normalize", "channel", "channels"),
    (fd_loss, MAPS, FD, "normalize", None, "none"),
    (fd_loss, MAPS, FD, "kind", "smoothl1", "smooth_l1"),
    (fd_loss, MAPS, FD, "kind", "huber", None),
]


@pytest.mark.parametrize(("loss", "given", "objective", "name", "value", "nearest"), CHOICES)
def test_unknown_names_are_refused_with_the_nearest(
    loss: Callable[..., Tensor], given: dict[str, Any], objective: type[Objective], name: str, value: Any, nearest: str
) -> None:
    message = f"unknown {name} {value!r}.*" + (f"did you mean '{nearest}'" if nearest else "There are")
    with pytest.raises(KeyError, match=message):
        objective(**{name: value})
    if loss:
        with pytest.raises(KeyError, match=message):
            loss(**given, **{name: value})


def test_the_ends_of_the_ranges_are_taken() -> None:
    assert kd_loss(**GOOD, temperature=1, alpha=0).isfinite() and kd_loss(**GOOD, alpha=1).isfinite()
    assert nkd_loss(**GOOD, gamma=0).isfinite()
    assert dkd_loss(**GOOD, alpha=0, beta=0) == 0 and dist_loss(**PAIR, beta=0, gamma=0) == 0


def test_numbers_are_given_by_name_only() -> None:
    for loss in (kd_loss, nkd_loss, dkd_loss, vanilla_kd_loss):
        with pytest.raises(TypeError, match="positional"):
            loss(*GOOD.values(), 3.0)
    for loss, given in ((dist_loss, PAIR), (fd_loss, MAPS)):
        with pytest.raises(TypeError, match="positional"):
            loss(*given.values(), 3.0)


def test_an_unknown_objective_offers_the_nearest() -> None:
    with pytest.raises(KeyError, match="unknown objective 'nkdd': did you mean 'nkd'"):
        OBJECTIVES["nkdd"]
