"""A student's errors by class and by image, counted by hand."""

from pathlib import Path

import pandas as pd
import pytest

from lkd import Recipe, figures
from lkd.runs.store import Run
from lkd.study import changed_images, class_accuracy, confusion

LABELS = [0, 0, 1, 1, 1, 3]
CLASSES = ["cat", "dog", "emu", "fox"]


def run(predicted: list[int], labels: list[int] = LABELS, classes: list[str] = CLASSES, data: str = "digits") -> Run:
    made = Run(Recipe(data=data, student="mini_resnet"), Path("nowhere"), {}, lambda: pytest.fail("weights"))
    made.__dict__["predictions"] = pd.DataFrame({"label": labels, "predicted": predicted})
    made.__dict__["provenance"] = {"data": {"classes": classes}}
    return made


STUDENT, ALONE = run([0, 0, 1, 1, 3, 0]), run([0, 1, 1, 2, 1, 0])


def test_the_matrix_counts_each_image_once_also_of_classes_without_any() -> None:
    table = confusion(STUDENT)
    assert table.to_numpy().tolist() == [[2, 0, 0, 0], [0, 2, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert list(table.index) == list(table.columns) == CLASSES
    figure = figures.confusion(table, title="a student")
    (drawn,) = figure.data
    assert drawn.z[1].tolist() == pytest.approx([0, 200 / 3, 0, 100 / 3]) and drawn.z[2].tolist() == [0] * 4
    assert drawn.text[1].tolist() == ["", "2", "", "1"]
    assert figure.layout.meta["alt"].endswith("4 classes. Most frequent error: fox taken for cat, 100 % of its images.")
    assert figure.layout.meta["table"]["rows"][1] == ["dog", 0, 2, 0, 1]


def test_a_perfect_network_and_many_classes_have_no_names_and_no_errors() -> None:
    many = pd.DataFrame(2 * pd.Series(1, index=range(40)).to_frame().to_numpy() * pd.get_dummies(range(40)).to_numpy())
    figure = figures.confusion(many, title="a network")
    assert figure.layout.meta["alt"].endswith("40 classes. No errors.")
    assert figure.data[0].text is None and not figure.layout.xaxis.showticklabels
    with pytest.raises(ValueError, match="no images"):
        figures.confusion(0 * many, title="a network")


def test_accuracy_by_class() -> None:
    table = class_accuracy(distilled=STUDENT, alone=ALONE)
    assert table.to_dict("list") == {
        "class": ["cat", "dog", "fox"],
        "images": [2, 3, 1],
        "distilled": pytest.approx([100, 200 / 3, 0]),
        "alone": pytest.approx([50, 200 / 3, 0]),
    }


def test_images_that_changed_from_the_most_helped_to_the_most_hurt() -> None:
    table = changed_images([STUDENT, run([0, 1, 1, 1, 1, 0])], [ALONE, ALONE])
    assert table.to_dict("split")["data"] == [
        [3, "dog", 100.0, 0.0, 100.0],
        [1, "cat", 50.0, 0.0, 50.0],
        [4, "dog", 50.0, 100.0, -50.0],
    ]


@pytest.mark.parametrize(
    "other",
    [run([0] * 6, labels=[0, 0, 0, 1, 1, 3]), run([0] * 6, data="fashion_mnist"), run([0] * 6, classes=["a", *"bcd"])],
)
def test_runs_on_other_images_are_refused(other: Run) -> None:
    with pytest.raises(ValueError, match="give runs with the same test images"):
        changed_images([STUDENT], [other])
    with pytest.raises(ValueError, match="give runs with the same test images"):
        class_accuracy(one=STUDENT, other=other)


def test_no_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one run on each side, got 1 distilled and 0 alone"):
        changed_images([STUDENT], [])
    with pytest.raises(ValueError, match="at least one run"):
        class_accuracy()
