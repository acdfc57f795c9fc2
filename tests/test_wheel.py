"""The package as `pip install` leaves it, outside any checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from lkd.util.files import CHECKOUT

pytestmark = pytest.mark.slow

UNTRACKED = shutil.ignore_patterns(".*", "__pycache__", "_build", "build", "dist", "*.egg-info")
TRAINED = """
import lkd

run = lkd.distill("mini_resnet", "mini_slak", data="digits", profile="smoke")
assert run.student.training is False and 0 < run.metrics["test_top1"] < 100
print(lkd.__file__, run.provenance["lkd"])
"""


def build(what: str, source: Path, target: Path) -> Path:
    """The sdist or wheel of a source tree, as pip makes it with the tools that are there."""
    target.mkdir()
    script = f"from setuptools import build_meta; build_meta.build_{what}({str(target)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=source, capture_output=True, check=True)
    return next(target.iterdir())


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist of the checkout, and the wheel of what the sdist holds."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(CHECKOUT, folder / "checkout", ignore=UNTRACKED)
    sdist = build("sdist", folder / "checkout", folder / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    return sdist, build("wheel", next((folder / "unpacked").iterdir()), folder / "wheel")


class Installed:
    """The package in a folder of its own, before this environment's other packages."""

    def __init__(self, folder: Path, wheel: Path):
        self.site, self.elsewhere = folder / "site", folder / "elsewhere"
        self.elsewhere.mkdir()
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(self.site)]
        subprocess.run([*pip, str(wheel)], check=True)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name != "LKD_HOME"}
        env = {**kept, "PYTHONPATH": str(self.site), "XDG_DATA_HOME": str(self.elsewhere / "data")}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.elsewhere, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"), archives[1])


def test_the_wheel_holds_the_package_and_nothing_else(archives: tuple[Path, Path]) -> None:
    ours = {
        str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "lkd").rglob("*.*") if "__pycache__" not in str(path)
    }
    names = set(zipfile.ZipFile(archives[1]).namelist())
    assert {name for name in names if ".dist-info/" not in name} == ours
    assert {"lkd/py.typed", "lkd/profiles/small.yaml", "lkd/paper/published.yaml"} <= names


def test_the_sdist_holds_the_package_and_what_builds_it(archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "lkd/__init__.py"} <= names
    assert not [name for name in names if name.startswith(("book", "notebooks"))]


def test_it_trains_and_keeps_its_runs_in_the_users_data_folder(installed: Installed) -> None:
    done = installed.python("-c", TRAINED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == str(installed.site / "lkd" / "__init__.py")
    assert len(list((installed.elsewhere / "data" / "lkd" / "runs").iterdir())) == 2


def test_the_command_is_there_and_explains_itself(installed: Installed) -> None:
    assert (installed.site / "bin" / "lkd").is_file()
    done = installed.python("-m", "lkd", "--help")
    assert done.returncode == 0 and "Knowledge distillation with large-kernel teachers" in done.stdout


@pytest.mark.parametrize(
    "words", [["run", "logit_kd"], ["show", "erf"], ["chapters"], ["claims", "--published"], ["publish", "smoke"]]
)
def test_what_needs_a_checkout_says_so_in_a_line_and_writes_nothing(installed: Installed, words: list[str]) -> None:
    done = installed.python("-m", "lkd", *words)
    assert done.returncode == 2 and "they come with a checkout of the project" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (installed.site / "book").exists()


def test_without_the_books_packages_the_command_says_what_to_install(installed: Installed) -> None:
    script = "import sys; sys.modules['nbformat'] = None; from lkd.cli import app; app(['run', 'logit_kd'])"
    done = installed.python("-c", script)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "pip install 'lkd[book]'" in done.stderr and "a checkout" in done.stderr
