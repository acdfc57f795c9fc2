"""Objectives as classes with named terms, for the training loop and recipes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lkd.objectives import (
    DIST,
    DKD,
    KD,
    NKD,
    OBJECTIVES,
    Label,
    Objective,
    Outputs,
    Vanilla,
    dist_loss,
    dkd_loss,
    fd_loss,
    kd_loss,
    label_loss,
    nkd_loss,
    vanilla_kd_loss,
)

RNG = torch.Generator().manual_seed(0)
STUDENT, TEACHER = (torch.randn(4, 10, generator=RNG) for _ in range(2))
MAPS = tuple(torch.randn(4, 6, 5, 5, generator=RNG) for _ in range(2))
LABEL = torch.tensor([3, 0, 9, 3])


def dist_of_labelled(student: Tensor, teacher: Tensor, target: Tensor, **numbers: Any) -> Tensor:
    return dist_loss(student, teacher, **numbers)


@pytest.mark.parametrize(
    ("objective", "loss", "numbers", "added", "names"),
    [
        (KD, kd_loss, {"temperature": 3.0, "alpha": 0.4}, {}, {"kd", "label"}),
        (NKD, nkd_loss, {"temperature": 3.0, "gamma": 1.5}, {}, {"target", "non_target"}),
        (DKD, dkd_loss, {"temperature": 3.0, "alpha": 0.5, "beta": 8.0}, {"label": 0.0}, {"target", "non_target"}),
        (DIST, dist_of_labelled, {"temperature": 3.0, "beta": 2.0}, {"label": 0.0}, {"inter", "intra"}),
        (Vanilla, vanilla_kd_loss, {"hard": "bce"}, {}, {"kd", "label"}),
        (Vanilla, vanilla_kd_loss, {"hard": "ce"}, {}, {"kd", "label"}),
    ],
)
def test_terms_have_names_and_their_sum_is_the_loss(
    objective: type[Objective],
    loss: Callable[..., Tensor],
    numbers: dict[str, Any],
    added: dict[str, float],
    names: set[str],
) -> None:
    terms = objective(**numbers, **added)(Outputs(STUDENT), Outputs(TEACHER), LABEL)
    assert terms.keys() == names | {"total"}
    assert terms["total"] == loss(STUDENT, TEACHER, LABEL, **numbers)
    torch.testing.assert_close(sum(terms[name] for name in names), terms["total"])


@pytest.mark.parametrize(
    ("objective", "loss", "default"), [(NKD, nkd_loss, 0.0), (DKD, dkd_loss, 1.0), (DIST, dist_of_labelled, 1.0)]
)
def test_the_label_loss_is_added_with_its_weight(
    objective: type[Objective], loss: Callable[..., Tensor], default: float
) -> None:
    outputs = Outputs(STUDENT), Outputs(TEACHER)
    terms = objective(label=0.5)(*outputs, LABEL)
    torch.testing.assert_close(terms["label"], 0.5 * label_loss(STUDENT, LABEL))
    torch.testing.assert_close(terms["total"], terms["label"] + loss(STUDENT, TEACHER, LABEL))
    assert objective().label == default
    assert "label" not in objective(label=0.0)(*outputs, LABEL)


@pytest.mark.parametrize("objective", [DKD, DIST])
def test_the_added_label_loss_may_be_binary(objective: type[Objective]) -> None:
    terms = objective(hard="bce")(Outputs(STUDENT), Outputs(TEACHER), LABEL)
    assert terms["label"] == label_loss(STUDENT, LABEL, hard="bce") != label_loss(STUDENT, LABEL)


def test_weights_that_are_0_switch_a_term_off() -> None:
    student, teacher = Outputs(STUDENT), Outputs(TEACHER)
    assert KD(alpha=0.0)(student, teacher, LABEL)["kd"] == 0
    assert KD(alpha=1.0)(student, teacher, LABEL)["label"] == 0
    assert NKD(gamma=0.0)(student, teacher, LABEL)["non_target"] == 0
    assert DKD(alpha=0.0)(student, teacher, LABEL)["target"] == 0
    assert DKD(beta=0.0)(student, teacher, LABEL)["non_target"] == 0
    assert DIST(beta=0.0)(student, teacher, LABEL)["inter"] == 0
    assert DIST(gamma=0.0)(student, teacher, LABEL)["intra"] == 0


def test_the_label_objective_needs_no_teacher_and_the_others_do() -> None:
    assert OBJECTIVES["label"]()(Outputs(STUDENT), None, LABEL)["total"] == label_loss(STUDENT, LABEL)
    binary = Label(hard="bce")(Outputs(STUDENT), None, LABEL)["total"]
    assert binary == label_loss(STUDENT, LABEL, hard="bce")
    needy = {name for name, objective in OBJECTIVES.items() if objective.needs_teacher}
    assert needy == set(OBJECTIVES) - {"label"}


def test_a_recipe_may_set_what_the_losses_take() -> None:
    assert {name: objective.hyperparameters() for name, objective in OBJECTIVES.items() if "+" not in name} == {
        "label": ["hard"],
        "kd": ["temperature", "alpha"],
        "nkd": ["temperature", "gamma", "label"],
        "dkd": ["temperature", "alpha", "beta", "label", "hard"],
        "dist": ["temperature", "beta", "gamma", "label", "hard"],
        "vanilla": ["hard"],
        "fd": ["normalize", "kind", "beta", "stages", "weight", "label", "student_layers", "teacher_layers"],
    }


def test_only_objectives_with_fd_ask_for_maps() -> None:
    assert {name: objective().stages for name, objective in OBJECTIVES.items() if objective().stages} == {
        "fd": 1,
        "kd+fd": 1,
        "nkd+fd": 1,
    }


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    """Objectives share one `forward`; PyTorch compiles at most eight variants of it per process."""
    torch.compiler.reset()


@pytest.mark.parametrize("loss", [kd_loss, nkd_loss, dkd_loss, vanilla_kd_loss, dist_of_labelled])
def test_compiles_without_a_break(loss: Callable[..., Tensor]) -> None:
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(STUDENT, TEACHER, LABEL), loss(STUDENT, TEACHER, LABEL))


def test_other_numbers_compile_without_a_break_too() -> None:
    compiled = torch.compile(kd_loss, backend="eager", fullgraph=True)
    for numbers in ({"temperature": 2.0, "alpha": 0.2}, {"temperature": 3.0, "alpha": 0.3}):
        expected = kd_loss(STUDENT, TEACHER, LABEL, **numbers)
        torch.testing.assert_close(compiled(STUDENT, TEACHER, LABEL, **numbers), expected)


@pytest.mark.parametrize("normalize", ["none", "channels", "chw"])
def test_fd_compiles_without_a_break(normalize: str) -> None:
    compiled = torch.compile(fd_loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*MAPS, normalize=normalize), fd_loss(*MAPS, normalize=normalize))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_compiles_without_a_break(name: str) -> None:
    student, teacher = Outputs(STUDENT, MAPS[:1]), Outputs(TEACHER, (MAPS[1][:, :4, :3, :3],))
    objective = OBJECTIVES[name]()
    objective.connect(student, teacher)
    compiled = torch.compile(objective, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(student, teacher, LABEL), objective(student, teacher, LABEL))
