"""A run is handed out again for the same content and code only, also where a notebook's cell defines them anew."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from short import ALONE, SMOKE, TAUGHT, TEACHER, Perceptron, equal
from torch import Tensor, nn

import lkd
from lkd import Recipe
from lkd.data import SOURCES, Images, load
from lkd.engine.setup import in_memory_name
from lkd.objectives import OBJECTIVES, Label, Objective, Outputs
from lkd.runs.store import Run, Store

pytestmark = pytest.mark.usefixtures("one_thread")

CELL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1024, 10)

    def forward(self, images):
        return self.head(images.flatten(1)).relu() * {factor}
"""


def cell(factor: int) -> nn.Module:
    """A network whose class has no source file, as after a notebook's cell was executed again."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(CELL.format(factor=factor), names)
    torch.manual_seed(0)
    return names["Net"]()


def trained(model: nn.Module, store: Store) -> Run:
    return lkd.train(model, **SMOKE, epochs=1, store=store)


def test_a_class_defined_anew_is_trained_anew(store: Store) -> None:
    first, changed, again = (trained(cell(factor), store) for factor in (1, 0, 1))
    assert again.path == first.path != changed.path
    assert changed.metrics["test_top1"] < first.metrics["test_top1"]


class Ordered(nn.Module):
    """Gives the classes of another network in an order."""

    def __init__(self, inner: nn.Module, order: list[int]):
        super().__init__()
        self.inner, self.order = inner, order

    def forward(self, images: Tensor) -> Any:
        return self.inner(images)[:, self.order]


def test_a_list_that_orders_the_classes_and_frozen_weights_are_part_of_a_run(store: Store) -> None:
    inner = cell(1)
    given = [Ordered(inner, list(range(10))), Ordered(inner, list(range(9, -1, -1))), Ordered(inner, list(range(10)))]
    partly = Ordered(cell(1), list(range(10)))
    partly.inner.head.bias.requires_grad_(False)
    runs = [trained(model, store) for model in (*given, partly)]
    assert runs[0].path == runs[2].path and len({run.path for run in runs}) == 3
    assert torch.equal(runs[3].student.inner.head.bias, partly.inner.head.bias)


def test_content_that_cannot_be_compared_is_said_and_trained_anew(store: Store) -> None:
    model = Perceptron()
    model.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.warns(UserWarning, match=r"student\.lock is a _thread\.lock, .*retrained each time"):
        first, second = in_memory_name(model, "student"), in_memory_name(model, "student")
    assert first != second


def scaled(factor: float) -> type[Objective]:
    class Scaled(Label):
        def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
            return {"label": factor * super().terms(student, teacher, target)["label"]}

    return Scaled


def dark(factor: float) -> Callable[[], Images]:
    def source() -> Images:
        data = load("digits")
        train = replace(data.train, images=(data.train.images * factor).byte())
        return replace(data, train=train)

    return source


@pytest.mark.parametrize(
    "registry, made, recipe",
    [
        (OBJECTIVES, scaled, {"data": "digits", "objective": "own"}),
        (SOURCES, dark, {"data": "own", "objective": "label"}),
    ],
    ids=["objective", "data"],
)
def test_what_is_registered_anew_makes_another_run(
    registry: Any, made: Any, recipe: dict[str, str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(factor: float) -> Run:
        monkeypatch.setitem(registry, "own", made(factor))
        return lkd.run(Recipe(**recipe, student="mini_resnet", train_images=64), store=store)

    first, changed, again = run(1.0), run(0.0), run(1.0)
    assert again.path == first.path != changed.path
    assert not equal(first.student, changed.student)
    with pytest.raises(ValueError, match="'own' was registered again with other code after this recipe was created"):
        lkd.run(changed.recipe, store=store)


def test_ids_of_recipes_that_name_nothing_of_ones_own_are_as_they_were() -> None:
    assert [recipe.run_id for recipe in (ALONE, TEACHER, TAUGHT)] == IDS
    assert not TAUGHT.own_code


IDS = ["1adee7877eb9b803", "bab4fdcfcb3a14af", "92e54a7a99c67165"]
