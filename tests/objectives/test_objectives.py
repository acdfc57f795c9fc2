"""Objectives as the training loop and recipes use them: classes with named terms."""

import pytest
import torch

from lkd.objectives import KD, NKD, OBJECTIVES, Outputs, kd_loss, label_loss, nkd_loss

STUDENT, TEACHER = (torch.randn(4, 10, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
LABEL = torch.tensor([3, 0, 9, 3])


@pytest.mark.parametrize(
    ("objective", "loss", "numbers", "names"),
    [
        (KD, kd_loss, {"temperature": 3.0, "alpha": 0.4}, {"kd", "label"}),
        (NKD, nkd_loss, {"temperature": 3.0, "gamma": 1.5}, {"target", "non_target"}),
    ],
)
def test_terms_have_names_and_their_sum_is_the_loss(objective, loss, numbers, names):
    terms = objective(**numbers)(Outputs(STUDENT), Outputs(TEACHER), LABEL)
    assert terms.keys() == names | {"total"}
    assert terms["total"] == loss(STUDENT, TEACHER, LABEL, **numbers)
    torch.testing.assert_close(sum(terms[name] for name in names), terms["total"])


def test_weights_that_are_0_switch_a_term_off():
    assert KD(alpha=0.0)(Outputs(STUDENT), Outputs(TEACHER), LABEL)["kd"] == 0
    assert KD(alpha=1.0)(Outputs(STUDENT), Outputs(TEACHER), LABEL)["label"] == 0
    assert NKD(gamma=0.0)(Outputs(STUDENT), Outputs(TEACHER), LABEL)["non_target"] == 0


def test_the_label_objective_needs_no_teacher_and_the_others_do():
    assert OBJECTIVES["label"]()(Outputs(STUDENT), None, LABEL)["total"] == label_loss(STUDENT, LABEL)
    needy = {name for name, objective in OBJECTIVES.items() if objective.needs_teacher}
    assert "label" not in needy and {"kd", "nkd"} <= needy


def test_a_recipe_may_set_what_the_losses_take():
    assert OBJECTIVES["kd"].hyperparameters() == ["temperature", "alpha"]
    assert OBJECTIVES["nkd"].hyperparameters() == ["temperature", "gamma", "label"]
    assert OBJECTIVES["label"].hyperparameters() == ["hard"]


@pytest.mark.parametrize("loss", [kd_loss, nkd_loss])
def test_compiles_without_a_break(loss):
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(STUDENT, TEACHER, LABEL), loss(STUDENT, TEACHER, LABEL))
