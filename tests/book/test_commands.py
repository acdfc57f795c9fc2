"""The shell commands in the README and on the page of commands work."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from training_here import copy_runs
from typer.testing import CliRunner

from lkd.cli import app
from lkd.data import fashion_mnist
from lkd.runs.store import Store
from lkd.study.chapters import studies_of
from lkd.util.files import CHECKOUT, home

README, PAGE = CHECKOUT / "README.md", CHECKOUT / "book" / "commands.md"
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:lkd|make|papermill) [^`]+)`")

LONG = {
    "make book": "the whole book: a quarter to half an hour",
    "make test": "all tests, this one among them",
    "make test-fast": "a part of these",
    "make book PROFILE=smoke": "the book at a scale that means nothing: tests/notebooks does it chapter by chapter",
    "make site": "builds all pages: tests/book/test_site.py does it",
    "make bench": "installs and measures for minutes",
    "make lint": "done before the tests",
    "papermill notebooks/logit_kd.ipynb out.ipynb -p profile smoke": "tests/notebooks does it with more parameters",
}
"""Commands that no test here types."""

SHORTER = {
    ".venv/bin/lkd run logit_kd -p seeds='[0, 1]' -p teachers='[\"mini_slak\", \"mini_vit\"]'": "-p profile=smoke",
    "lkd study logit_kd --profile small --workers 2": "--profile smoke",
    "lkd plan logit_kd --profile imagenet --gpu h100": "--no-measure",
}
"""Commands that take minutes as they stand: with these words behind them, they take seconds."""

USERS_HOME = home()


def blocks(path: Path) -> list[str]:
    """Commands in a page's blocks, without comments."""
    lines = [line for block in BLOCK.findall(path.read_text()) for line in block.splitlines()]
    return [line.partition(" #")[0].strip() for line in lines]


def typed(command: str) -> None:
    """Run a command as its words stand, `lkd` within this process."""
    words = shlex.split(command)
    if Path(words[0]).name == "lkd":
        answer = CliRunner().invoke(app, words[1:])
        assert answer.exit_code == 0, f"{command}: {answer.output}"
    else:
        assert os.spawnvp(os.P_WAIT, sys.executable, [sys.executable, "-m", *words]) == 0, command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a folder of images, and a new working directory with the chapters."""
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            path = tmp_path / "home" / "data" / "pets" / split / label / "1.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (40, 40)).save(path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "notebooks").symlink_to(CHECKOUT / "notebooks")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_the_readmes_commands_are_found() -> None:
    assert len(blocks(README)) == 5 and len(blocks(PAGE)) >= 15
    assert set(LONG) <= {*blocks(README), *INLINE.findall(README.read_text())}
    assert set(SHORTER) <= {*blocks(README), *INLINE.findall(README.read_text())}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [each for each in [*blocks(README), *INLINE.findall(README.read_text())] if each not in LONG]
)
def test_a_command_of_the_readme_works(command: str, here: Path, smoke_runs: Store) -> None:
    shutil.copytree(smoke_runs.folder / "runs", here.parent / "home" / "runs")
    if command == "lkd chapters":
        if not ((images := USERS_HOME / "data" / "fashion-mnist").is_dir() or fashion_mnist.DEBIAN_FOLDER.is_dir()):
            pytest.skip("Fashion-MNIST is not on this machine")
        if images.is_dir():
            (here.parent / "home" / "data" / "fashion-mnist").symlink_to(images)
    typed(f"{command} {SHORTER.get(command, '')}")


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_page_of_commands_works_from_top_to_bottom(here: Path, smoke_runs: Store) -> None:
    studies = studies_of("logit_kd", "smoke", teachers=["mini_slak"], seeds=[0])
    copy_runs(smoke_runs, here.parent / "home", [recipe for study in studies for recipe in study.recipes])
    for command in blocks(PAGE):
        typed(command)
    assert (here / "field.png").exists() and (here / "student" / "model.safetensors").exists()
