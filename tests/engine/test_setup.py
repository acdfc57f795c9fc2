"""Invalid setups are refused before any work; custom models and data take a few lines."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import timm
import torch
from short import ALONE, SMOKE, TAUGHT, TEACHER, Perceptron, equal, same
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

import lkd
from lkd import Recipe
from lkd.data import Batch, Images, load
from lkd.engine.setup import RunSetup, in_memory_name
from lkd.engine.teacher import FrozenTeacher
from lkd.engine.trainer import Trainer
from lkd.models import Normalized
from lkd.profiles import Profile
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


class Pair(nn.Module):
    """Returns something beside its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1024, 10)

    def forward(self, images: Tensor) -> Any:
        return self.head(images.flatten(1)), images


def pairs(number: int = 80, channels: int = 3, size: int = 16, classes: int = 4) -> TensorDataset:
    """A data set as users have them."""
    generator = torch.Generator().manual_seed(number)
    images = torch.randint(256, (number, channels, size, size), generator=generator, dtype=torch.uint8)
    return TensorDataset(images, torch.arange(number) % classes)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch, store: Store) -> Iterator[None]:
    """Whatever is asked in this test, nothing is trained and no run appears."""
    monkeypatch.setattr(Trainer, "run", lambda *_: pytest.fail("it trained"))
    yield
    assert not list(store.folder.glob("runs/*"))


# Refused before any work --------------------------------------------------------------------------------------------


class Refused(NamedTuple):
    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    settings: dict[str, Any]
    error: type[Exception]
    message: str


def of_distill(*arguments: Any, error: type[Exception], message: str, **settings: Any) -> Refused:
    return Refused(lkd.distill, arguments, {**SMOKE, **settings}, error, message)


def of_run(recipe: Recipe, error: type[Exception], message: str) -> Refused:
    return Refused(lkd.run, (recipe,), {}, error, message)


FEW = (pairs(20), pairs(20))
WIDE = timm.create_model("mini_resnet", in_chans=3, num_classes=10)
SEVEN = Perceptron(classes=7)
FASHION_TEACHER = Recipe(data="fashion_mnist", student="mini_slak")
CASES = {
    "student": of_distill(
        "mini_resnt", "mini_slak", error=KeyError, message="unknown student model 'mini_resnt': did you mean 'mini_resn"
    ),
    "teacher": of_distill(
        "mini_resnet", "mini_slack", error=KeyError, message="unknown teacher model 'mini_slack': did you mean 'mini_sl"
    ),
    "objective": of_distill(
        "mini_resnet", "mini_slak", objective="nkdd", error=KeyError, message="unknown objective 'nkdd': did you mean"
    ),
    "profile": of_distill(
        "mini_resnet", "mini_slak", profile="smok", error=KeyError, message="unknown profile 'smok': did you mean 'smok"
    ),
    "data": of_distill(
        "mini_resnet", "mini_slak", data="digit", error=KeyError, message="unknown data set 'digit': did you mean 'dig"
    ),
    "setting": of_distill(
        "mini_resnet", "mini_slak", epoch=3, error=TypeError, message="unknown setting 'epoch': did you mean 'epochs'"
    ),
    "parameter": of_distill(
        "mini_resnet", "mini_slak", gama=2, error=TypeError, message="unknown setting 'gama': did you mean 'gamma'"
    ),
    "value": of_distill("mini_resnet", "mini_slak", epochs=0, error=ValueError, message="epochs must be at least 1"),
    "list of data sets": of_distill(
        "mini_resnet",
        "mini_slak",
        data=[1, 2],
        error=TypeError,
        message="data must be a name, a pair .* got a list of 2",
    ),
    "one data set": of_distill(
        "mini_resnet",
        "mini_slak",
        data=(pairs(),),
        error=TypeError,
        message=r"\(train, val, test\) .* a tuple of 1: give",
    ),
    "data sets by name": of_distill(
        "mini_resnet",
        "mini_slak",
        data={"test": pairs(), "train": pairs(), "validation": pairs()},
        error=TypeError,
        message=r"got a dict: give data\['train'\], data\['validation'\], data\['test'\] as a tuple",
    ),
    "a data set without a test set": of_distill(
        "mini_resnet",
        "mini_slak",
        data=pairs(),
        error=TypeError,
        message="got a TensorDataset: split it, .*random_split",
    ),
    "student's type": of_distill(3, "mini_slak", error=TypeError, message="a model must be .* got a int"),
    "teacher's type": of_distill("mini_resnet", 3, error=TypeError, message="a model must be .* got a int"),
    "student's channels": of_distill(
        WIDE, "mini_slak", error=ValueError, message=r"student cannot take images of shape \(2, 1, 32, 32\): .*channels"
    ),
    "teacher's channels": of_distill(
        "mini_resnet", WIDE, error=ValueError, message=r"teacher cannot take images of shape \(2, 1, 32, 32\): .*chann"
    ),
    "student's classes": of_distill(
        SEVEN, "mini_slak", error=ValueError, message=r"student gives outputs of shape \(2, 7\) for 2 images of 10"
    ),
    "teacher's classes": of_distill(
        "mini_resnet", SEVEN, error=ValueError, message=r"teacher gives outputs of shape \(2, 7\) for 2 images of 10"
    ),
    "student's output": of_distill(Pair(), "mini_slak", error=ValueError, message="student must return logits, a tens"),
    "size": of_distill(
        "mini_vit",
        "mini_slak",
        data=(pairs(), pairs()),
        train_images=64,
        error=ValueError,
        message=r"student cannot take images of shape \(2, 3, 16, 16\): .*height",
    ),
    "student's arguments": of_run(
        replace(ALONE, student_args={"kernal": 3}), ValueError, "student 'mini_resnet' cannot be made with .*kernal"
    ),
    "data's own arguments": of_distill(
        "mini_resnet", "mini_slak", student_args={"in_chans": 3}, error=ValueError, message="in_chans.*leave it out"
    ),
    "optimizer's arguments": of_distill(
        "mini_resnet",
        "mini_slak",
        optimizer_args={"betta": 0.9},
        error=ValueError,
        message="optimizer 'adamw' cannot be made with .*unknown argument 'betta': did you mean 'betas'",
    ),
    "an optimizer of a package that is missing": of_run(
        replace(ALONE, optimizer="bnbadamw8bit"), ValueError, "optimizer 'bnbadamw8bit' cannot be made with .*bitsandb"
    ),
    "a decay that is longer than the run": of_run(
        replace(ALONE, schedule="wsd", schedule_args={"decay_epochs": 3}),
        ValueError,
        "schedule 'wsd' cannot be made with {'decay_epochs': 3} for 2 epoch.* of 2 steps",
    ),
    "a student with a tag": of_distill(
        "resnet18.a1_in1k", "mini_slak", error=ValueError, message="'resnet18.a1_in1k' has the tag of pretrained weigh"
    ),
    "a teacher's tag": of_distill(
        "mini_resnet", "resnet18.a1_in1", error=KeyError, message="did you mean 'resnet18.a1_in1k'"
    ),
    "a teacher's weights": of_distill(
        "mini_resnet",
        Recipe(data="digits", student="mini_slak", student_args={"drop_path_rat": 0.1}),
        objective="kd",
        error=ValueError,
        message="'mini_slak' cannot be made with {'drop_path_rat': 0.1}",
    ),
    "schedule": of_distill(
        "mini_resnet", "mini_slak", schedule="cosin", error=KeyError, message="unknown schedule 'cosin': did you mean"
    ),
    "schedule's arguments": of_distill(
        "mini_resnet",
        "mini_slak",
        schedule_args={"minlr": 0},
        error=TypeError,
        message="did you mean 'min_lr'",
    ),
    "a value that is no plain one": of_distill(
        "mini_resnet",
        "mini_slak",
        student_args={"act": nn.ReLU()},
        error=TypeError,
        message="student_args must contain n",
    ),
    "half precision without a GPU": of_run(
        replace(ALONE, precision="fp16"), ValueError, "precision 'fp16' needs a GPU, and there is none"
    ),
    "parts": of_distill(
        "mini_resnet", "mini_slak", accumulation=3, error=ValueError, message="accumulation must divide batch_size 64"
    ),
    "likeliest classes": of_run(
        replace(TAUGHT, teacher_top_k=9), ValueError, "teacher_top_k must be at least 1 and at most 8, got 9"
    ),
    "likeliest classes of nobody": of_run(
        replace(ALONE, teacher_top_k=2), ValueError, "teacher_top_k is 2, but the recipe has no teacher"
    ),
    "a student without maps": of_distill(
        SEVEN, "mini_slak", objective="fd", error=ValueError, message="student .* a Perceptron has no feature maps"
    ),
    "more stages than there are": of_distill(
        "mini_resnet", "mini_slak", objective="fd", stages=7, error=ValueError, message="feature maps, objective 'fd' n"
    ),
    "a layer of the student": of_distill(
        "mini_resnet",
        "mini_slak",
        objective="fd",
        student_layers=["stage.2"],
        error=KeyError,
        message="unknown layer of student 'stage.2': did you mean 'stages.2'",
    ),
    "a layer of the teacher": of_distill(
        "mini_resnet",
        "mini_slak",
        objective="nkd+fd",
        teacher_layers=["stages.2", "stages.9"],
        stages=2,
        error=KeyError,
        message=r"unknown layer of teacher 'stages.9': did you mean 'stages.\d'",
    ),
    "a layer without a map": of_distill(
        SEVEN,
        "mini_slak",
        objective="fd",
        student_layers=["head"],
        error=ValueError,
        message=r"'head' have shape \(2, 7",
    ),
    "no stages": of_distill(
        "mini_resnet", "mini_slak", objective="fd", stages=0, error=ValueError, message="stages must be at least 1"
    ),
    "a way to normalise": of_distill(
        "mini_resnet", "mini_slak", objective="fd", normalize="chanels", error=KeyError, message="'channels'"
    ),
    "a kind of hard loss": of_distill(
        "mini_resnet", "mini_slak", objective="vanilla", hard="bec", error=KeyError, message="did you mean 'bce'"
    ),
    "another objective's parameter": of_distill(
        "mini_resnet", "mini_slak", objective="kd", stages=2, error=TypeError, message="unknown setting 'stages'"
    ),
    "a folder that is not there": of_distill(
        "mini_resnet", "mini_slak", data="folder:/nowhere", error=FileNotFoundError, message="/nowhere"
    ),
    "a saved teacher that is not there": of_distill(
        "mini_resnet", "no/such/model", error=FileNotFoundError, message="no/such/model"
    ),
    "too few images": of_run(
        replace(ALONE, train_images=63), ValueError, "batch_size 64 is more than the 63 training images: lower batch_s"
    ),
    "too few of one's own": of_distill(
        "mini_resnet", "mini_slak", data=FEW, train_images=None, error=ValueError, message="batch_size 64 is more tha"
    ),
    "more images than there are": of_run(replace(ALONE, train_images=1298), ValueError, "cannot take 1298 of 1297"),
    "teacher without weights": of_run(
        replace(TAUGHT, teacher="mini_slak"), ValueError, "teacher 'mini_slak' has no pretrained weights: give the rec"
    ),
    "teacher's data": of_run(
        replace(TAUGHT, teacher=FASHION_TEACHER), ValueError, r"teacher 'mini_slak' is trained on fashion_mnist.*digits"
    ),
    "scope of sparse training": of_run(
        replace(ALONE, sparsity=0.4, sparse_scope="large_kernels"), ValueError, "scope 'large_kernels' has no parameter"
    ),
    "student of another call": of_run(
        replace(ALONE, student="memory:0123"), KeyError, "memory:0123 is an object in memory of another call: pass"
    ),
    "teacher of another call": of_run(
        replace(TAUGHT, teacher="memory:0123"), KeyError, "memory:0123 is an object in memory of another call: pass"
    ),
    "data of another call": of_run(
        replace(ALONE, data="memory:0123"), KeyError, "memory:0123 is an object in memory of another call: pass"
    ),
}


@pytest.fixture
def tiny_fashion(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for Fashion-MNIST, which would have to be downloaded."""
    digits = load("digits")
    classes = tuple("abcdefghij")
    fashion = Images("fashion_mnist", classes, digits.train, digits.val, digits.test, digits.mean, digits.std)
    other = {"fashion_mnist": fashion}
    monkeypatch.setattr("lkd.engine.setup.load", lambda name, **view: other.get(name) or load(name, **view))


@pytest.mark.usefixtures("untrained", "tiny_fashion")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_cannot_work_is_refused_before_any_work(case: Refused, store: Store) -> None:
    with pytest.raises(case.error, match=case.message):
        case.call(*case.arguments, **case.settings, store=store)


@pytest.mark.usefixtures("untrained")
def test_a_full_disk_is_told_before_any_work(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 4321}))
    with pytest.raises(OSError, match=rf"store {store.folder} has 4,321 bytes free, this run needs [\d,]+: make room"):
        lkd.run(TAUGHT, store=store)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("call", [lkd.train, lambda student, **how: lkd.distill(student, TEACHER, **how)])
def test_a_student_that_is_a_recipe_is_not_trained_for_what_cannot_work(
    call: Callable[..., object], store: Store
) -> None:
    with pytest.raises(ValueError, match="batch_size 4096 is more than the 128 training images"):
        call(ALONE, **{**SMOKE, "batch_size": 4096}, store=store)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("name", ["student", "teacher", "objective", "temperature"])
def test_train_takes_no_setting_that_would_make_it_something_else(name: str, store: Store) -> None:
    with pytest.raises(TypeError, match=f"unknown setting '{name}'"):
        lkd.train("mini_resnet", **SMOKE, store=store, **{name: "mini_slak"})


# One call -----------------------------------------------------------------------------------------------------------


def test_ones_own_models_and_data_work_in_a_handful_of_lines(store: Store) -> None:
    values = 3 * 16 * 16
    student, teacher = Perceptron(8, values, classes=4), nn.Sequential(nn.Flatten(), nn.Linear(values, 4))
    run = lkd.distill(student, teacher, data=(pairs(), pairs(40)), profile="smoke", temperature=2.0, store=store)
    assert type(run.student) is Perceptron
    assert run.recipe.objective_args == {"temperature": 2}
    of_test = {f"test_{name}" for name in ("top1", "loss", "ece", "agreement", "kl")}
    assert set(run.metrics) == {"val_top1", "val_loss", "teacher_top1", *of_test}
    again = lkd.distill(student, teacher, data=(pairs(), pairs(40)), profile="smoke", temperature=2.0, store=store)
    assert again.path == run.path and equal(again.student, run.student)


def test_data_may_be_any_pair_of_map_style_data_sets(store: Store) -> None:
    data = pairs(100, channels=1)
    halves = Subset(data, range(0, 100, 2)), Subset(data, range(1, 100, 2))
    run = lkd.train("mini_resnet", data=halves, profile="smoke", batch_size=16, store=store)
    assert run.student(torch.zeros(1, 1, 16, 16)).shape == (1, 4)


def test_a_triple_has_the_order_train_val_test(store: Store) -> None:
    triple = pairs(60), pairs(20), pairs(40)
    settings: dict[str, Any] = dict(profile="smoke", epochs=1, train_images=None, batch_size=16, store=store)
    run = lkd.train("mini_resnet", data=triple, **settings)
    assert run.provenance["data"]["images"] == {"train": 60, "val": 20, "test": 40}
    assert run.recipe.data == in_memory_name(lkd.data.from_datasets(triple[0], triple[2], val=triple[1]))


def test_overrides_go_to_the_recipe_or_to_the_objective(store: Store) -> None:
    run = lkd.distill("mini_resnet", TEACHER, objective="kd", **SMOKE, alpha=0.3, epochs=1, lr=1, store=store)
    assert (run.recipe.epochs, run.recipe.lr, run.recipe.train_images) == (1, 1.0, 128)
    assert run.recipe.objective_args == {"alpha": 0.3}
    assert len(run.history) == 1


def test_parameters_of_the_objective_do_not_come_from_the_profile(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Profile.load("smoke").objectives["kd"]["alpha"] != 0.1
    run = lkd.distill("mini_resnet", TEACHER, objective="kd", **SMOKE, epochs=1, store=store)
    assert run.recipe.objective_args == {}
    assert "lkd: objective kd: temperature 1, alpha 0.1" in capsys.readouterr().err
    by_mapping: dict[str, Any] = dict(objective_args={"alpha": 0.3}, temperature=2)
    recipe = lkd.distill("mini_resnet", TEACHER, objective="kd", **SMOKE, epochs=1, store=store, **by_mapping).recipe
    assert recipe.objective_args == {"alpha": 0.3, "temperature": 2}


@pytest.mark.slow
def test_a_teacher_may_be_a_recipe_its_run_or_a_name_of_the_profile(store: Store) -> None:
    named = lkd.distill("mini_resnet", "mini_convnext", **SMOKE, store=store)
    recipe = named.recipe.teacher
    assert isinstance(recipe, Recipe) and (recipe.student, recipe.train_images) == ("mini_convnext", None)
    trained = store.find(recipe)
    assert trained is not None
    assert lkd.train("mini_convnext", data="digits", profile="smoke", store=store).path == trained.path
    for teacher in (recipe, trained):
        assert lkd.distill("mini_resnet", teacher, **SMOKE, store=store).path == named.path


def test_the_mode_a_module_is_given_in_does_not_matter(tmp_path: Path) -> None:
    module = Perceptron()
    first = lkd.train(module.train(), **SMOKE, store=Store(tmp_path / "first"))
    second = lkd.train(module.eval(), **SMOKE, store=Store(tmp_path / "second"))
    assert same(first, second)


def test_a_module_teaches_as_the_run_it_comes_from(store: Store) -> None:
    trained = lkd.run(TEACHER, store=store)
    by_run = lkd.distill("mini_resnet", trained, **SMOKE, store=store)
    by_module = lkd.distill("mini_resnet", trained.student.train(), **SMOKE, store=store)
    assert by_module.path != by_run.path
    assert same(by_module, by_run)


def test_the_run_of_ones_own_model_teaches_the_next_student(store: Store) -> None:
    first = lkd.distill(Perceptron(), Perceptron(32), **SMOKE, store=store)
    second = lkd.distill("mini_resnet", first, **SMOKE, store=store)
    assert second.recipe.teacher == first.recipe


def test_a_teacher_trained_on_other_data_of_ones_own_teaches_on_these(store: Store) -> None:
    first = lkd.train("mini_resnet", data=(pairs(80), pairs()), profile="smoke", store=store)
    second = lkd.distill("mini_convnext_nano", first, data=(pairs(90), pairs()), profile="smoke", store=store)
    assert second.recipe.data != first.recipe.data
    with pytest.raises(ValueError, match="teacher cannot take images"):
        lkd.distill("mini_resnet", first, **SMOKE, store=store)


# Names of what is in memory -----------------------------------------------------------------------------------------


def test_a_module_is_known_by_its_weights_and_its_structure() -> None:
    torch.manual_seed(0)
    first, second = Perceptron(), Perceptron()
    assert in_memory_name(first) != in_memory_name(second)
    second.load_state_dict(first.state_dict())
    assert in_memory_name(first) == in_memory_name(second)
    second.drop.p = 0.1
    assert in_memory_name(first) != in_memory_name(second)


def test_a_student_with_its_own_normalisation_sees_images_under_it() -> None:
    given = Normalized(nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), (0.3,), (0.7,))
    name = in_memory_name(given)
    setup = RunSetup(Recipe(data="digits", student=name, epochs=1), {name: given})
    raw = setup.data.val.images[:5] / 255
    torch.testing.assert_close(setup.network()(setup.data.normalise(setup.data.val.images[:5])), given(raw))


def test_a_teacher_with_its_own_normalisation_sees_images_under_it() -> None:
    data, seen = load("digits"), nn.Identity()
    pixels = data.val.images[:5]
    batch = Batch(data.normalise(pixels), data.val.labels[:5], torch.arange(5))
    teacher = FrozenTeacher(Normalized(seen, (0.3,), (0.7,)), data)
    torch.testing.assert_close(teacher(0, batch).logits, (pixels / 255 - 0.3) / 0.7)
    assert torch.equal(FrozenTeacher(seen, data)(0, batch).logits, batch.images)


def test_two_recipes_of_one_stream_show_the_same_pixels_and_another_seed_shows_others() -> None:
    augmented = replace(ALONE, crop=2, cutmix=1.0)
    student = replace(TAUGHT, crop=2, cutmix=1.0, student="mini_convnext_nano", lr=1e-3)
    first, second, other = (
        RunSetup(recipe, {}).stream.batch(1, 1) for recipe in (augmented, student, replace(augmented, seed=1))
    )
    assert augmented.stream_id == student.stream_id
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(first, second, strict=True))
    assert not np.array_equal(first.images, other.images)


def test_modules_with_other_plain_attributes_are_not_the_same() -> None:
    first, second = Perceptron(), Perceptron()
    second.load_state_dict(first.state_dict())
    assert in_memory_name(first) == in_memory_name(second)
    second.drop.note = 5
    assert in_memory_name(first) != in_memory_name(second)
