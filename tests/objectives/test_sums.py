"""Sums of objectives: parts keep their terms, layers and hyperparameters."""

from typing import Any

import pytest
import torch
from plain_losses import sample

from lkd.objectives import DIST, DKD, FD, KD, NKD, OBJECTIVES, Features, Label, Objective, Outputs, Sum

LOGITS_S, LOGITS_T, LABEL, _ = sample(10, dtype=torch.float32)
RNG = torch.Generator().manual_seed(3)
STUDENT = Outputs(LOGITS_S, tuple(torch.randn(4, c, 4, 4, generator=RNG) for c in (3, 4)))
TEACHER = Outputs(LOGITS_T, tuple(torch.randn(4, c, 2, 2, generator=RNG) for c in (5, 6)))
OF_FEATURES = ["normalize", "kind", "beta", "stages", "weight", "student_layers", "teacher_layers"]


@pytest.mark.parametrize(
    ("name", "part", "numbers"),
    [
        ("kd+fd", KD, {"temperature": 3.0, "alpha": 0.4}),
        ("nkd+fd", NKD, {"temperature": 3.0, "gamma": 1.5}),
        ("nkd+fd", NKD, {"gamma": 1.5, "label": 1.0}),
    ],
)
def test_a_sum_with_fd_is_both(name: str, part: type[Objective], numbers: dict[str, Any]) -> None:
    objective = OBJECTIVES[name](**numbers, normalize="channels", stages=2, weight=0.5)
    assert objective.stages == 2 and objective.needs_teacher
    objective.connect(STUDENT, TEACHER)
    terms = objective(STUDENT, TEACHER, LABEL)
    alone = FD(normalize="channels", stages=2, weight=0.5, label=0.0)
    alone.projectors = objective.addends[1].projectors
    expected = {**part(**numbers).terms(STUDENT, TEACHER, LABEL), **alone.terms(STUDENT, TEACHER, LABEL)}
    assert terms.keys() == {*expected, "total"}
    assert all(terms[term] == value for term, value in expected.items())
    torch.testing.assert_close(terms["total"], sum(expected.values()))


def test_the_label_counts_once() -> None:
    objective = OBJECTIVES["kd+fd"](alpha=0.0, weight=0.0)
    objective.connect(STUDENT, TEACHER)
    assert objective(STUDENT, TEACHER, LABEL)["total"] == Label()(STUDENT, None, LABEL)["total"]


def test_projectors_of_a_part_are_parameters_of_the_sum() -> None:
    objective = OBJECTIVES["nkd+fd"](stages=2)
    assert not list(objective.parameters())
    objective.connect(STUDENT, TEACHER)
    objective(STUDENT, TEACHER, LABEL)["total"].backward()
    assert len(list(objective.parameters())) == 4
    assert all(weight.grad.abs().sum() > 0 for weight in objective.parameters())


def test_hyperparameters_are_those_of_the_parts() -> None:
    assert OBJECTIVES["kd+fd"].hyperparameters() == ["temperature", "alpha", *OF_FEATURES]
    assert OBJECTIVES["nkd+fd"].hyperparameters() == ["temperature", "gamma", "label", *OF_FEATURES]


def test_wrong_values_are_refused_by_the_part_and_unknown_names_by_the_sum() -> None:
    with pytest.raises(ValueError, match="alpha must be"):
        OBJECTIVES["kd+fd"](alpha=2.0)
    with pytest.raises(KeyError, match="unknown kind 'smooth': did you mean 'smooth_l1'"):
        OBJECTIVES["nkd+fd"](kind="smooth")
    with pytest.raises(TypeError, match="unknown parameter of KDAndFD 'gamma'"):
        OBJECTIVES["kd+fd"](gamma=1.0)


@pytest.mark.parametrize(
    ("parts", "name"), [((DKD, Features), "beta"), ((NKD, FD), "label"), ((KD, DIST), "temperature")]
)
def test_a_name_that_two_parts_have_is_refused_where_the_class_is_made(
    parts: tuple[type[Objective], ...], name: str
) -> None:
    with pytest.raises(TypeError, match=f"{parts[0].__name__} and {parts[1].__name__}.*{name!r}"):

        class Both(Sum, parts=parts):
            pass


def test_a_term_that_two_parts_have_is_refused() -> None:
    class Twice(Sum, parts=(KD, Label)):
        pass

    with pytest.raises(ValueError, match="Twice has the term 'label'"):
        Twice()(STUDENT, TEACHER, LABEL)


def test_sums_of_sums_and_without_a_teacher() -> None:
    class Labels(Sum, parts=(Label,)):
        pass

    class Nested(Sum, parts=(Labels, Features)):
        pass

    assert not Labels.needs_teacher and Nested.needs_teacher
    assert Labels()(STUDENT, None, LABEL)["total"] == Label()(STUDENT, None, LABEL)["total"]
    objective = Nested(hard="bce", stages=2)
    objective.connect(STUDENT, TEACHER)
    assert objective.stages == 2 and objective(STUDENT, TEACHER, LABEL).keys() == {"label", "fd", "total"}
