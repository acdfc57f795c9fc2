"""What `lkd data check` says of a data set: an account in six lines at most, then the files that cannot be read."""

import json
from pathlib import Path

import pytest
from calling import lkd
from PIL import Image


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for split in ("train", "val", "test"):
        for label, mode in (("1", "RGB"), ("2", "LA"), ("10", "CMYK")):
            path = tmp_path / split / label / ("a.jpg" if mode == "CMYK" else "a.png")
            path.parent.mkdir(parents=True)
            Image.new(mode, (40, 30)).save(path)
    (tmp_path / "val" / ".DS_Store").touch()
    (tmp_path / "notes.txt").touch()
    return tmp_path


def test_a_data_set_is_accounted_for_in_six_lines(pets: Path) -> None:
    answer = lkd("data", "check", f"folder:{pets}")
    assert answer.exit_code == 0
    assert answer.output.splitlines() == [
        f"folder:{pets}: 3 classes; train 3, val 3, test 3 images; class order: by value (1, 2, 10); torchvision's "
        "ImageFolder sorts as text (1, 10, 2); ignored: 1 hidden, 1 outside the splits ('notes.txt')",
        "3 classes",
        *(f"{split}: 3 images, 1 to 1 of a class" for split in ("train", "val", "test")),
        "pixels: 3 with transparent pixels (stored colours kept), 3 in CMYK (converted without a colour profile)",
    ]


def test_json_has_the_same_and_the_files_that_cannot_be_read(pets: Path) -> None:
    (pets / "train" / "1" / "a.png").write_bytes(b"")
    answer = lkd("data", "check", f"folder:{pets}", "--json")
    found = json.loads(answer.output)
    assert answer.exit_code == 1
    assert found["unreadable"] == {str(pets / "train" / "1" / "a.png"): "the file is empty"}
    assert found["ignored"] == {"hidden": 1, "beside": 1} and found["care"] == {"transparent": 3, "cmyk": 3}
    assert found["account"].startswith(f"folder:{pets}: 3 classes; train 3, val 3, test 3 images; class order")
