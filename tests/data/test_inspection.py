"""List of data sets, and check of a data set."""

from pathlib import Path

import pytest
from PIL import ExifTags, Image
from timm.data import ImageNetInfo

from lkd.data import Files, load
from lkd.data.inspection import check_images, list_data_sets


def pictures(folder: Path, classes: list[str], count: int = 12) -> Path:
    for split in ("train", "val", "test"):
        for label in classes:
            for number in range(count):
                path = folder / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8)).save(path)
    return folder


def checked(folder: Path) -> Files:
    data = load(f"folder:{folder}")
    assert isinstance(data, Files)
    return data


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LKD_HOME", str(tmp_path))
    return tmp_path


def test_folders_of_the_home_are_known_by_name(home: Path) -> None:
    pictures(home / "data" / "pets", ["cat", "dog"])
    found = {row.name: row for row in list_data_sets()}
    assert found["digits"].classes == 10 and found["digits"].images == {"train": 1297, "val": 250, "test": 250}
    assert found["folder:pets"].images == {"train": 24, "val": 24, "test": 24}
    assert found["folder:pets"].place == str(home / "data" / "pets")


def test_data_that_is_not_here_is_listed_and_not_fetched(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lkd.data.fashion_mnist.DEBIAN_FOLDER", home / "nothing")
    monkeypatch.setattr("lkd.data.fashion_mnist._downloaded", lambda *_: pytest.fail("it was fetched"))
    (row,) = (row for row in list_data_sets() if row.name == "fashion_mnist")
    assert row.images is None and row.place.startswith("not on this machine")


def test_a_folder_that_cannot_be_used_is_listed_with_the_reason(home: Path) -> None:
    pictures(home / "data" / "pets", ["cat"])
    (row,) = (row for row in list_data_sets() if row.name == "folder:pets")
    assert row.images is None and "has only one class, 'cat'" in row.place


def test_whole_data_passes(tmp_path: Path) -> None:
    found = check_images(checked(pictures(tmp_path, ["cat", "dog"])))
    assert found.classes == ("cat", "dog") and not found.imagenet and found.unreadable == {}
    assert found.images == {"train": [12, 12], "val": [12, 12], "test": [12, 12]}


def test_every_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = pictures(tmp_path, ["cat", "dog"])
    half, text = folder / "train" / "cat" / "3.png", folder / "test" / "dog" / "11.png"
    half.write_bytes(half.read_bytes()[:30])
    text.write_text("no image")
    found = check_images(checked(folder), threads=2)
    assert found.unreadable.keys() == {str(half), str(text)}
    assert "cannot identify image file" in found.unreadable[str(text)]


@pytest.mark.slow
def test_imagenets_classes_are_recognised_by_their_order(tmp_path: Path) -> None:
    names = ImageNetInfo().label_names()
    assert check_images(checked(pictures(tmp_path / "whole", names, 1))).imagenet
    other = pictures(tmp_path / "other", [*names[:-1], "n99999999"], 1)
    assert not check_images(checked(other)).imagenet


def test_pixels_that_need_care_and_what_is_not_read_are_counted(tmp_path: Path) -> None:
    folder = pictures(tmp_path, ["cat", "dog"])
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 30)).save(folder / "train" / "cat" / "0.jpg", exif=turned)
    Image.new("LA", (40, 30)).save(folder / "val" / "dog" / "1.png")
    (folder / "val" / "notes.txt").touch()
    found = check_images(checked(folder))
    assert found.care == {"orientation": 1, "transparent": 1} and found.ignored == {"other": 1}
    assert found.account.endswith("train 25, val 24, test 24 images; ignored: 1 of other types ('val/notes.txt')")


def test_a_folder_with_another_name_for_train_is_known(home: Path) -> None:
    (pictures(home / "data" / "pets", ["cat", "dog"]) / "train").rename(home / "data" / "pets" / "Training")
    assert "folder:pets" in [row.name for row in list_data_sets()]
