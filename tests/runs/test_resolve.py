"""Models by name, folder or run id, with images as each model expects them."""

from pathlib import Path

import pytest
import timm
from PIL import Image

from lkd import Recipe
from lkd.data import Files, load
from lkd.models import save_model
from lkd.runs.resolve import load_trained, load_with_data, resolve
from lkd.runs.store import Run, Store

RUN = Recipe(data="digits", student="mini_resnet", train_images=128)


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            path = tmp_path / "pictures" / split / label / "1.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (70, 50)).save(path)
    return f"folder:{tmp_path / 'pictures'}"


@pytest.fixture
def run(store: Store) -> Run:
    import lkd

    return lkd.run(RUN, store=store)


def test_a_model_is_a_name_a_folder_or_a_run(store: Store, run: Run, tmp_path: Path) -> None:
    folder = save_model(timm.create_model("mini_vit"), tmp_path / "mini_resnet")
    assert resolve("mini_resnet", store) == "mini_resnet"
    assert resolve(str(folder), store) == folder
    found = resolve(run.recipe.run_id[:5], store)
    assert isinstance(found, Run) and found.path == run.path


def test_a_folder_in_the_working_directory_does_not_hide_a_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mini_resnet").mkdir()
    (tmp_path / "student").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("mini_resnet", store) == "mini_resnet"
    assert resolve("student", store) == Path("student")
    assert resolve("./mini_resnet", store) == Path("mini_resnet")


def test_a_model_of_another_program_cannot_be_loaded_by_id(store: Store) -> None:
    import lkd

    run = lkd.train(timm.create_model("mini_resnet", in_chans=1), data="digits", profile="smoke", store=store)
    with pytest.raises(ValueError, match="exists only in its author's program"):
        load_trained(run.recipe.run_id, store)


def test_a_runs_model_sees_the_images_of_its_run(store: Store, run: Run) -> None:
    found = load_with_data(run.recipe.run_id, store)
    assert found.data is load("digits") and found.run is not None and not found.model.training


def test_a_pretrained_model_sees_images_as_it_was_trained_on_them(
    store: Store, pictures: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = timm.create_model("test_vit", num_classes=2)
    config = timm.data.resolve_data_config(model=model)
    monkeypatch.setattr("lkd.runs.resolve.timm.create_model", lambda name, pretrained: model)
    found = load_with_data("test_vit", store, pictures).data
    assert isinstance(found, Files)
    assert (found.mean, found.std) == (config["mean"], config["std"])
    assert found.size == config["input_size"][1:] == (160, 160)
    assert (found.view.crop_pct, found.view.interpolation) == (config["crop_pct"], config["interpolation"])


def test_a_folders_model_sees_images_as_the_data_says(store: Store, pictures: str, tmp_path: Path) -> None:
    folder = save_model(timm.create_model("test_resnet", num_classes=2), tmp_path / "saved")
    found = load_with_data(str(folder), store, pictures, image_size=64).data
    assert found.size == (64, 64) and found.mean == load(pictures).mean


def test_other_classes_are_refused(store: Store, run: Run, pictures: str, tmp_path: Path) -> None:
    folder = save_model(timm.create_model("test_resnet", num_classes=7), tmp_path / "saved")
    with pytest.raises(ValueError, match=r"has 7 classes, but folder:.* has 2"):
        load_with_data(str(folder), store, pictures, image_size=64)
    with pytest.raises(ValueError, match=r"data is missing: .* is not the id of a run"):
        load_with_data(str(folder), store)


REFUSED = {
    "a tag": (
        "test_resnet.no_such",
        KeyError,
        "unknown model 'test_resnet.no_such': did you mean 'test_resnet.r160_in",
    ),
    "a deprecated name": ("convnext_tiny_in22k", KeyError, "deprecated in timm: give 'convnext_tiny' for new weights"),
    "the hub": ("hf-hub:timm/test_resnet.r160_in1k", ValueError, "names a source of weights, .* give lkd.distill the"),
    "timm's form of a folder": (
        "local-dir:saved",
        ValueError,
        "names a source of weights.*the folder of a saved model",
    ),
}


@pytest.mark.parametrize(("text", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_a_name_that_timm_would_take_for_something_else_is_refused(
    text: str, error: type[Exception], message: str, store: Store
) -> None:
    for call in (resolve, load_trained, load_with_data):
        with pytest.raises(error, match=message):
            call(text, store)


def test_a_folder_called_like_a_model_and_more_is_a_folder(
    store: Store, pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(timm.create_model("test_resnet", num_classes=2), "test_resnet.mine/saved")
    assert resolve("test_resnet.mine", store) == Path("test_resnet.mine")
    found = load_with_data("test_resnet.mine/saved", store, pictures, image_size=64).data
    assert isinstance(found, Files)
    assert (found.mean, found.view.crop_pct) == (load(pictures).mean, 0.875)
