"""`lkd.distill` with a list of teachers: they are trained first, and teach as the mean of their probabilities."""

from dataclasses import replace

import pytest
import timm
import torch
from short import TEACHER, Perceptron

import lkd
from lkd.data import Batch, load
from lkd.engine.setup import RunSetup, in_memory_name
from lkd.models import Ensemble, Normalized
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = {"data": "digits", "profile": "smoke", "epochs": 1, "train_images": 256}


def distil(teacher: object, store: Store, **more: object) -> lkd.Run:
    return lkd.distill("mini_resnet", teacher, store=store, **{**SHORT, **more})  # type: ignore[arg-type]


@pytest.mark.slow
def test_recipes_in_a_list_are_trained_once_and_teach_together(store: Store) -> None:
    """Two short teachers and two students: 6 s."""
    teachers = [replace(TEACHER, seed=seed) for seed in (0, 1)]
    run = distil(teachers, store)
    trained = [store.find(each) for each in teachers]
    assert all(trained)
    members = [each.student for each in trained if each]
    data = load("digits")
    images, labels = next(data.batches(data.val, torch.arange(len(data.val)), len(data.val)))
    with torch.no_grad():
        mean = sum(member(images).softmax(1) for member in members)
    assert run.metrics["teacher_top1"] == pytest.approx(
        100 * (mean.argmax(1) == labels).double().mean().item(), abs=0.3
    )
    assert distil([each for each in trained if each], store).path == run.path, "runs and recipes are the same teachers"


def test_weights_and_members_are_part_of_the_run(store: Store) -> None:
    members = [Perceptron(), Perceptron()]
    equal, other = Ensemble(members), Ensemble(members, [1, 3])
    assert in_memory_name(equal) == in_memory_name(Ensemble(members, [2, 2])) != in_memory_name(other)


def test_each_teacher_has_its_own_normalisation() -> None:
    torch.manual_seed(0)
    plain, own = (timm.create_model("mini_resnet", in_chans=1, num_classes=10).eval() for _ in range(2))
    ensemble = Ensemble([plain, Normalized(own, [0.5], [0.25])])
    name = in_memory_name(ensemble)
    recipe = lkd.Recipe(data="digits", student="mini_resnet", teacher=name, objective="kd", epochs=1)
    setup = RunSetup(recipe, {name: ensemble})
    live = setup.frozen_teacher(None)
    data = setup.data
    images, labels = next(data.batches(data.test, torch.arange(8), 8))
    raw = images * torch.tensor(data.std)[:, None, None] + torch.tensor(data.mean)[:, None, None]
    with torch.no_grad():
        expected = (plain(images).softmax(1) + own((raw - 0.5) / 0.25).softmax(1)) / 2
    assert live is not None
    found = live(0, Batch(images, labels, torch.arange(8))).logits.softmax(1)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(ensemble.members[1].shift, torch.tensor([[[-2.0]]])), "the caller's ensemble is unchanged"


def test_a_list_that_cannot_teach_is_refused_before_its_teachers_are_trained(store: Store) -> None:
    with pytest.raises(ValueError, match="a Ensemble has no feature maps"):
        distil([TEACHER, replace(TEACHER, seed=1)], store, objective="fd")
    with pytest.raises(ValueError, match="at least two members, got 1"):
        distil([TEACHER], store)
    with pytest.raises(TypeError, match="got a int"):
        distil([TEACHER, 3], store)
    with pytest.raises(ValueError, match="'mini_nothing' has no pretrained weights"):
        distil([TEACHER, "mini_nothing"], store)
    assert not list(store.folder.glob("runs/*"))
