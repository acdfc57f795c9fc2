"""A teacher that does not fit the data is detected before training, and recorded."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from short import SMOKE, TAUGHT
from torch import Tensor, nn

import lkd
from lkd.data import Images, Split, load
from lkd.engine.teacher_check import TeacherCheck
from lkd.export import export
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


class Nearest(nn.Module):
    """Classifies by the nearest mean of the training images, in an order of the classes."""

    def __init__(self, data: Images, order: list[int]):
        super().__init__()
        images, labels = data.normalise(data.train.images).flatten(1), data.train.labels
        self.register_buffer("means", torch.stack([images[labels == k].mean(0) for k in range(10)]))
        self.order = order

    def forward(self, images: Tensor) -> Any:
        return -torch.cdist(images.flatten(1), self.means)[:, self.order]


def distilled(teacher: nn.Module, store: Store, **settings: Any) -> lkd.Run:
    return lkd.distill("mini_resnet", teacher, **SMOKE, **settings, store=store)


def test_the_accuracy_of_a_teacher_is_in_record_and_card_and_nobody_is_warned_of_a_good_one(
    store: Store, tmp_path: Path
) -> None:
    with warnings.catch_warnings(action="error"):
        run = distilled(Nearest(load("digits"), list(range(10))), store)
    assert run.metrics["teacher_top1"] == store.by_id(run.recipe.run_id).metrics["teacher_top1"] > 80
    card = (export(run, tmp_path / "student") / "README.md").read_text()
    assert f"{run.metrics['teacher_top1']:.2f}" in card


def test_a_teacher_with_its_classes_in_another_order_is_named_with_the_order(store: Store) -> None:
    order = [0, 1, 3, 4, 5, 6, 7, 8, 9, 2]
    with pytest.warns(UserWarning, match=r"teacher 'Nearest' has a top-1 of .* % on 250 .* no better than gues"):
        run = distilled(Nearest(load("digits"), [9, *range(9)]), store)
    assert run.metrics["teacher_top1"] < 15
    with pytest.warns(UserWarning, match=r"another order, with its class \d as class \d .* reach 100.0 %"):
        check = TeacherCheck("teacher", torch.tensor(order * 20), torch.arange(10).repeat(20), 10)
        assert check.warn(student_top1=95.0)


def test_a_teacher_far_below_the_student_alone_is_warned_of_before_training(store: Store) -> None:
    data = load("digits")
    weak = Nearest(data, list(range(10)))
    weak.means[:4] = weak.means[4:8]
    alone = lkd.run(TAUGHT.baseline, store=store)
    check = TeacherCheck("weak", torch.zeros(500, dtype=torch.int64), torch.arange(500) % 4, 4)
    with pytest.warns(UserWarning, match="no better than guessing"):
        check.warn()
    half = TeacherCheck("half", torch.arange(500) % 2, torch.arange(500) % 4, 4)
    with pytest.warns(UserWarning, match=r"'half' has a top-1 of 50.0 % .* far below the student \(70.0 %\): check"):
        assert half.warn(70.0)
    assert not half.warn(55.0) and not half.warn()
    assert alone.metrics.keys() == {"val_top1", "val_loss", "test_top1", "test_loss", "test_ece"}


def predicted(labels: torch.Tensor, changes: dict[int, int], wrong: int = 0) -> TeacherCheck:
    given = labels.clone()
    for label, other in changes.items():
        given[labels == label] = other
    given[:wrong] = (given[:wrong] + 1) % 10
    return TeacherCheck("teacher", given, labels, 10)


def test_two_classes_that_changed_places_are_noticed_whatever_the_accuracy() -> None:
    labels = torch.arange(250) % 10
    with pytest.warns(UserWarning, match=r"80.0 % .* seem to be swapped: .*class [34] as class [34] .* reach 100.0 %"):
        assert predicted(labels, {3: 4, 4: 3}).warn()
    with warnings.catch_warnings(action="error"):
        assert not predicted(labels, {}, wrong=60).warn()
        assert not predicted(labels, {3: 4}).warn()


def test_a_good_teacher_of_rare_classes_is_no_guess() -> None:
    labels = torch.tensor([0] * 244 + [1] * 6)
    right = TeacherCheck("right", torch.tensor([0] * 244 + [1, 1, 1, 0, 0, 0]), labels, 2)
    with warnings.catch_warnings(action="error"):
        assert not right.warn()
        assert not TeacherCheck("one", torch.zeros(9, dtype=torch.int64), torch.zeros(9, dtype=torch.int64), 2).warn()
    with pytest.warns(UserWarning, match="no better than guessing"):
        TeacherCheck("constant", torch.zeros_like(labels), labels, 2).warn()


class Probabilities(nn.Module):
    """Ends with a softmax."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Any:
        return self.inner(images).softmax(1)


class InPlace(Probabilities):
    """Changes the images that it is given."""

    def forward(self, images: Tensor) -> Any:
        return self.inner(images.mul_(2).div_(2).add_(1).sub_(1))


class Broken(Probabilities):
    """Gives a value that is not finite."""

    def forward(self, images: Tensor) -> Any:
        return self.inner(images) * float("nan")


def test_probabilities_broken_logits_and_changed_images_do_not_pass(store: Store) -> None:
    good = Nearest(load("digits"), list(range(10)))
    with pytest.warns(UserWarning, match="teacher returns probabilities: remove its softmax"):
        distilled(Probabilities(good), store, epochs=1)
    with pytest.raises(ValueError, match="teacher 'Broken' returns logits that are not finite for 250 of 250"):
        distilled(Broken(good), store, epochs=1)
    plain, changed = distilled(good, store, epochs=1), distilled(InPlace(good), store, epochs=1)
    assert plain.history.val_loss.iloc[-1] == pytest.approx(changed.history.val_loss.iloc[-1], rel=1e-4)


@pytest.fixture
def pretrained(monkeypatch: pytest.MonkeyPatch) -> str:
    """A pretrained model by timm's name, without a download."""
    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **how: make(name, **how))
    monkeypatch.setattr("lkd.engine.teacher_origin.weights_origin", lambda name: {"name": name})
    return "test_resnet"


def images(low: float, high: float, channels: int = 3) -> Images:
    generator = torch.Generator().manual_seed(0)
    classes = tuple(map(str, range(1000)))
    split = Split(low + (high - low) * torch.rand(72, channels, 32, 32, generator=generator), torch.arange(72))
    return Images("pictures", classes, split, split, split, (0.0,) * channels, (1.0,) * channels)


@pytest.mark.parametrize("low, high", [(-2.1, 2.6), (0, 255)])
def test_images_that_a_pretrained_teachers_normalisation_is_not_made_for_are_refused(
    low: float, high: float, pretrained: str, store: Store
) -> None:
    with pytest.raises(ValueError, match=r"for images in \[0, 1\], but train images range .* as a plain module"):
        lkd.distill("mini_resnet", pretrained, data=images(low, high), profile="smoke", epochs=1, store=store)


@pytest.mark.filterwarnings("ignore:teacher")
def test_a_pretrained_teacher_sees_grey_images_under_the_mean_of_its_colours(pretrained: str, store: Store) -> None:
    given = images(0, 1, channels=1)
    run = lkd.distill("mini_resnet", pretrained, data=given, profile="smoke", epochs=1, store=store)
    assert "teacher_top1" in run.metrics
    with pytest.raises(ValueError, match="normalisation of 3 channels, the data's images have 5"):
        lkd.distill("mini_resnet", pretrained, data=images(0, 1, 5), profile="smoke", epochs=1, store=store)
