"""`lkd distill`, `train`, `evaluate`, `erf` and `robustness`: real work, and the numbers that the library gives."""

import json
from pathlib import Path

import numpy as np
import pytest
from calling import lkd, told
from PIL import Image

import lkd as library
from lkd.data import load
from lkd.engine import evaluate
from lkd.erf import area_ratios, at_size, contribution_map, effective_share, sample_images
from lkd.models import load_model
from lkd.profiles import Profile
from lkd.robustness import corruption_errors
from lkd.runs.store import Run, Store

SMALL = ("--data", "digits", "--profile", "smoke", "--set", "train_images=128", "--set", "epochs=1")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A student of digits, and a folder with its network; the teacher is trained by the command."""
    folder = tmp_path_factory.mktemp("saved") / "student"
    answer = told("distill", "mini_resnet", "mini_convnext", *SMALL, "--set", "temperature=2", "--save", folder)
    assert answer["saved"] == str(folder)
    return Store().by_id(answer["run_id"])


@pytest.fixture
def folder(student: Run, tmp_path: Path) -> Path:
    answer = told("distill", "mini_resnet", "mini_convnext", *SMALL, "--set", "temperature=2", "--save", tmp_path / "s")
    assert answer["run_id"] == student.recipe.run_id
    return tmp_path / "s"


def test_a_distillation_is_the_librarys(student: Run) -> None:
    teacher = Profile.load("smoke").teacher_recipe("mini_convnext", data="digits")
    recipe = student.recipe
    assert recipe.teacher == teacher and recipe.objective == "nkd" and recipe.objective_args["temperature"] == 2
    assert (recipe.train_images, recipe.epochs, recipe.lr) == (128, 1, 8e-3)
    same = library.distill(
        "mini_resnet", "mini_convnext", data="digits", profile="smoke", train_images=128, epochs=1, temperature=2
    )
    assert same.path == student.path and same.metrics == student.metrics


def test_a_run_can_teach_and_go_on(student: Run) -> None:
    teacher = student.recipe.teacher.run_id
    again = told("distill", "mini_resnet", teacher[:8], *SMALL, "--objective", "kd", "--set", "alpha=0.5")
    assert again["recipe"]["teacher"]["student"] == "mini_convnext"
    assert again["recipe"]["objective_args"] == {"alpha": 0.5}
    more = told("train", student.recipe.run_id, *SMALL)
    assert more["recipe"]["student"].startswith("memory:")
    assert more["metrics"].keys() == student.metrics.keys() - {"teacher_top1", "test_agreement", "test_kl"}


def test_training_is_told_in_words() -> None:
    answer = lkd("train", "mini_resnet", *SMALL, "--set", "seed=3")
    run = library.train("mini_resnet", data="digits", profile="smoke", train_images=128, epochs=1, seed=3)
    assert answer.exit_code == 0
    assert f"run {run.recipe.run_id}: mini_resnet on digits, seed 3" in answer.stdout
    assert f"test {run.metrics['test_top1']:.2f} %" in answer.stdout


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_run_is_evaluated_as_the_library_does(student: Run, split: str) -> None:
    found = told("evaluate", student.recipe.run_id[:8], "--split", split)
    data = load("digits")
    figures = evaluate(student.student, data, data.splits[split])
    assert {name: found[name] for name in ("top1", "loss")} == figures
    assert found["top1"] == pytest.approx(student.metrics[f"{split}_top1"]) and found["images"] == 250


def test_a_folder_is_evaluated_like_the_run_it_came_from(student: Run, folder: Path) -> None:
    assert (folder / "model.safetensors").exists()
    ours, theirs = (told("evaluate", model, "--data", "digits") for model in (folder, student.recipe.run_id))
    assert (ours["top1"], ours["loss"]) == (theirs["top1"], theirs["loss"])


def test_a_saved_student_says_what_images_it_expects(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    data = load("digits")
    assert config["input_size"] == [1, 32, 32]
    assert config["mean"] == list(data.mean) and config["std"] == list(data.std)


def test_a_receptive_field_is_the_librarys(student: Run, folder: Path, tmp_path: Path) -> None:
    picture, array = tmp_path / "map.png", tmp_path / "map.npz"
    small = ("--size", "64", "--count", "4", "--data", "digits")
    found = told("erf", folder, *small, "--save", array)
    images = sample_images(load("digits"), 64, 4)
    field = contribution_map(at_size(load_model(folder), 64), images)
    assert found["effective_share"] == pytest.approx(effective_share(field))
    sides = [row["side"] for row in found["area_ratios"]["plain"]]
    assert sides == [row.side for row in area_ratios(field, log=False)]
    assert [row["threshold"] for row in found["area_ratios"]["logarithm"]] == [0.2, 0.3, 0.5, 0.99]
    np.testing.assert_allclose(np.load(array)["map"], field)
    assert lkd("erf", folder, *small, "--save", picture).exit_code == 0
    shown = np.asarray(Image.open(picture))
    brightness = np.log10(field + 1)
    assert shown.shape == (64, 64) and np.abs(shown - 255 * brightness / brightness.max()).max() <= 0.5
    kept = told("erf", student.recipe.run_id, *small[:4])
    assert kept["effective_share"] == pytest.approx(found["effective_share"], rel=1e-4)
    assert list((student.path / "measured").glob("erf-*.npz"))


@pytest.mark.slow
def test_errors_on_corruptions_are_the_librarys(student: Run, folder: Path) -> None:
    found = told("robustness", student.recipe.run_id, "--count", "20")
    table = corruption_errors(student.student, load("digits"), 20)
    assert [row["error"] for row in found["rows"]] == table.error.tolist()
    changed = table[table.severity > 0].error
    assert found["percent"]["mean"] == pytest.approx(100 * changed.mean())
    assert found["percent"]["fog"] == pytest.approx(100 * table[table.corruption == "fog"].error.mean())
    other = told("robustness", folder, "--data", "digits", "--count", "20")
    assert other["percent"] == found["percent"]
    assert f"{found['percent']['mean']:6.2f}" in lkd("robustness", student.recipe.run_id, "--count", "20").stdout


def test_imagenets_sets_are_measured_from_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    from lkd.robustness import class_indices, imagenet_robustness

    names = timm.data.ImageNetInfo().label_names()
    for index in class_indices("A"):
        path = tmp_path / "imagenet-a" / names[index] / "1.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (40, 30), (index % 256, 90, 30)).save(path)
    model = timm.create_model("test_resnet")
    monkeypatch.setattr("lkd.runs.resolve.timm.create_model", lambda name, pretrained: model)
    found = told("robustness", "test_resnet", "--imagenet", tmp_path, "--sets", "A", "--count", "20")
    table = imagenet_robustness(model, tmp_path, ["A"], count=20)
    assert found["rows"] == table.to_dict("records") and found["rows"][0]["classes"] == 200
    assert found["percent"]["ImageNet-A"] == pytest.approx(100 * table.error[0])
    assert "mCE-15 (standard)" in found["percent"] and found["percent"]["mCE-15 (standard)"] is None
