"""Objectives of one's own, given to `lkd.distill`: one identity for one meaning."""

import functools
import threading
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from short import TEACHER
from torch import Tensor, nn

import lkd
from lkd.objectives import FD, KD, OBJECTIVES, Features, Label, Objective, Outputs, Sum, kd_loss
from lkd.objectives.own import add, importable, registered
from lkd.recipe import Recipe
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread", "own_names")


@pytest.fixture
def own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that a test adds are taken away after it."""
    for name, kind in OBJECTIVES.items():
        monkeypatch.setitem(OBJECTIVES, name, kind)
    before = dict(OBJECTIVES)
    yield
    for name in OBJECTIVES.keys() - before.keys():
        del OBJECTIVES[name]


class Squares(Objective):
    """Distance of the logits."""

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        return {"squares": self.weight * F.mse_loss(student.logits, teacher.logits)}


def squares(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, weight: float = 1.0) -> Tensor:
    """Distance of the logits."""
    return weight * F.mse_loss(student_logits, teacher_logits)


def distance(power: int) -> Any:
    def distance(student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        return ((student_logits - teacher_logits).abs() ** power).mean()

    return distance


def recipe(objective: Any) -> Recipe:
    name, parameters = registered(objective)
    return Recipe(data="digits", student="mini_resnet", teacher=TEACHER, objective=name, objective_args=parameters)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:teacher .* no better than guessing")
def test_a_function_and_a_class_are_trained_with_and_found_again(store: Store) -> None:
    torch.manual_seed(0)
    teacher = timm.create_model("mini_convnext_nano", in_chans=1, num_classes=10)
    settings = {"data": "digits", "profile": "smoke", "train_images": 64, "epochs": 1, "store": store}
    runs = [
        lkd.distill("mini_resnet", teacher, objective=given, weight=2.0, **settings) for given in (squares, Squares)
    ]
    first, other = runs
    assert (first.recipe.objective, other.recipe.objective) == ("squares", "Squares")
    assert first.recipe.objective_args == other.recipe.objective_args == {"weight": 2}
    assert first.history.train_squares.equals(other.history.train_squares) and (first.history.train_squares > 0).all()
    again = lkd.distill("mini_resnet", teacher, objective=Squares(2.0), **settings)
    assert again.path == other.path
    with pytest.raises(TypeError, match="objective has its parameters already, got weight as well"):
        lkd.distill("mini_resnet", teacher, objective=Squares(2.0), weight=3.0, **settings)
    with pytest.raises(TypeError, match="unknown setting 'wight': did you mean 'weight'"):
        lkd.distill("mini_resnet", teacher, objective=squares, wight=3.0, **settings)


def test_the_code_of_a_function_is_part_of_its_runs_identity() -> None:
    line, square, again = (recipe(distance(power)) for power in (1, 2, 1))
    assert line.objective == square.objective == "distance"
    assert line.run_id == again.run_id != square.run_id


@pytest.mark.parametrize(
    ("given", "name", "parameters"),
    [
        ("kd", "kd", {}),
        (KD, "kd", {}),
        (KD(), "kd", {}),
        (KD(alpha=0.5), "kd", {"alpha": 0.5}),
        (FD(student_layers=["a"], teacher_layers=["b"]), "fd", {"student_layers": ["a"], "teacher_layers": ["b"]}),
        (OBJECTIVES["kd+fd"](alpha=0.5, stages=2), "kd+fd", {"alpha": 0.5, "stages": 2}),
        (Squares(3.0), "Squares", {"weight": 3.0}),
    ],
)
def test_equal_objectives_have_one_name_and_equal_parameters(given: Any, name: str, parameters: dict[str, Any]) -> None:
    assert registered(given) == (name, parameters)


def test_a_class_that_is_registered_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "mine", Squares)
    assert registered(Squares(2.0)) == ("mine", {"weight": 2.0}) and "Squares" not in OBJECTIVES


def test_layers_are_part_of_the_identity_only_where_they_are_given() -> None:
    plain = Recipe(data="digits", student="mini_resnet", teacher=TEACHER, objective="fd")
    assert recipe(FD()).run_id == recipe(FD(student_layers=())).run_id == plain.run_id == "727331eea74be326"
    named = recipe(FD(student_layers=["stages.1"], teacher_layers=["stages.1"]))
    assert named.run_id not in (plain.run_id, recipe(FD(student_layers=["stages.2"])).run_id)


class Hides(Squares):
    """An objective that does not keep its parameter."""

    def __init__(self, weight: float = 1.0):
        super().__init__()
        del self.weight


class Random(Squares):
    """An objective with a layer that is random before `connect`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


def changed() -> Objective:
    objective = Squares()
    objective.extra = 3  # type: ignore[assignment]
    return objective


def label(student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
    return student_logits.sum()


def locked() -> Any:
    lock = threading.Lock()

    def locked(student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        with lock:
            return student_logits.sum()

    return locked


WRONG = {
    "a lambda": (lambda s, t, y: s.sum(), TypeError, "objective is a lambda, .*: define a function with def$"),
    "a partial": (
        functools.partial(squares, weight=2),
        TypeError,
        "a partial, .*pass its parameters to lkd.distill",
    ),
    "a module": (nn.MSELoss(), TypeError, "objective is a MSELoss, which has no name"),
    "a function of C": (torch.relu, TypeError, "'relu' is a function of C: call it in a function of .student_logits"),
    "a function of two": (F.relu, TypeError, "'relu' must be a function of .student_logits.*too many positional"),
    "a lock": (locked(), TypeError, r"_thread.lock.*identity of its runs would change each time\. Create it inside"),
    "a name of lkd's": (label, ValueError, "objective 'label' has the name of one of lkd's own: give"),
    "hidden parameters": (Hides(), TypeError, "does not keep its parameters as attributes .*objective=Hides, weight"),
    "changed": (changed(), TypeError, "was changed after its creation, so that Squares cannot make it again"),
    "random": (Random(), TypeError, "Random cannot make it again: pass the class"),
    "a number": (3, TypeError, "objective must be a name, one of .*, got 3"),
    "a class of something else": (nn.Linear, TypeError, "objective must be a name"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_what_has_no_identity_is_refused_with_the_remedy(case: Any) -> None:
    given, error, message = case
    with pytest.raises(error, match=message):
        registered(given)


def test_parts_of_a_sum_compare_the_same_layers() -> None:
    class Last(Objective):
        stages = 1

        def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
            return {"last": student.maps[-1].mean()}

    class Both(Sum, parts=(Last, Features, Label)):
        pass

    assert Both(stages=2).student_maps == 2
    with pytest.raises(ValueError, match="the parts of Both must have equal student_layers, got"):
        Both(student_layers=["a"], teacher_layers=["b"])


def test_another_process_gets_what_it_can_import() -> None:
    for given in (squares, Squares, kd_loss):
        name, _ = registered(given)
        sent = importable(name)
        assert sent is given
        before = recipe(name).own_code
        del OBJECTIVES[name]
        add(name, sent)
        assert recipe(name).own_code == before
    registered(distance(1))
    with pytest.raises(ValueError, match=r"'distance' cannot be sent to other processes: .*use num_processes=1"):
        importable("distance")
