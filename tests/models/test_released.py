"""Files released by the papers' authors: download addresses, and verification by checksum."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from lkd.models import released as teachers
from lkd.models.released import authors_files, authors_teacher
from lkd.paper import published_table
from lkd.recipe import Recipe

SMALL = dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_classes=10)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Write a file in the format of the authors' scripts, of a smaller network."""
    create = timm.create_model
    monkeypatch.setattr(teachers.timm, "create_model", lambda name: create(name, **SMALL))

    def write(seed: int) -> Path:
        torch.manual_seed(seed)
        path = tmp_path / f"checkpoint-{seed}.pth"
        torch.save({"model": create("convnext_bn_tiny", **SMALL).state_dict(), "epoch": 299}, path)
        return path

    return write


@pytest.mark.parametrize("name", authors_files())
def test_every_file_is_of_a_network_that_a_recipe_knows(name: str) -> None:
    Recipe(data="digits", student=authors_files()[name].model)


def test_links_and_names_are_those_that_the_sources_state() -> None:
    students = {row[0]: row[2] for row in published_table("l2s_student_checkpoints").rows}
    zoo = published_table("vkd_model_zoo")
    files, base = {row[3] for row in zoo.rows}, zoo.caveat.split("Base URL ")[1].split(" ")[0].rstrip(".")
    stated = {about.url for about in authors_files().values()} - {None}
    assert stated == {*students.values(), *(f"{base}{file}" for file in files)}
    named = {about.file for about in authors_files().values()} - files - {None}
    loaded = str(published_table("l2s_teacher_files").rows)
    assert len(named) == 3 and all(name in loaded for name in named)


def test_a_file_gives_its_network_and_is_known_again(written: Any, home: Path) -> None:
    path = written(1)
    model = authors_teacher("l2s_convnext_tiny", path)
    assert not model.training
    assert torch.equal(model.head.weight, torch.load(path, weights_only=True)["model"]["head.weight"])
    (known,) = json.loads((home / "authors_files.json").read_text()).items()
    assert known[0] == "l2s_convnext_tiny" and known[1]["file"] == str(path)
    authors_teacher("l2s_convnext_tiny", path.rename(path.with_name("moved.pth")))


def test_another_file_under_its_name_is_refused_with_what_to_do(written: Any, home: Path) -> None:
    authors_teacher("l2s_convnext_tiny", written(1))
    other = written(2)
    told = rf"{other} is not the file that was first used as l2s_convnext_tiny .*checkpoint-1.*surfdrive.*authors_files"
    with pytest.raises(ValueError, match=told):
        authors_teacher("l2s_convnext_tiny", other)
    authors_teacher("l2s_convnext_small", other)
    known = json.loads((home / "authors_files.json").read_text())
    del known["l2s_convnext_tiny"]
    (home / "authors_files.json").write_text(json.dumps(known))
    authors_teacher("l2s_convnext_tiny", other)


def test_a_file_that_does_not_fit_is_not_remembered(written: Any, home: Path) -> None:
    path = written(1)
    torch.save(nn.Linear(2, 3).state_dict(), path)
    with pytest.raises(ValueError, match="does not fit SLaK"):
        authors_teacher("l2s_convnext_tiny", path)
    assert not (home / "authors_files.json").exists()


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("slak_tinny", KeyError, "unknown file of the authors 'slak_tinny': did you mean 'slak_tiny'"),
        (
            "slak_tiny",
            FileNotFoundError,
            "no file gone.pth: get it from the links in the README of VITA-Group/SLaK .*not in",
        ),
        ("l2s_convnext_tiny", FileNotFoundError, "no file gone.pth: get it from https://surfdrive.surf.nl/files/index"),
        ("cswin_tiny", FileNotFoundError, "get cswin_tiny_224.pth from release v0.1.0 of microsoft/CSWin-Transformer"),
    ],
)
def test_what_is_not_there_is_told_with_where_to_get_it(name: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        authors_teacher(name, "gone.pth")
