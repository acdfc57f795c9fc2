"""Locations of files, and atomic replacement."""

import errno
import stat
from pathlib import Path

import pytest

from lkd.util import files
from lkd.util.files import fetching, home, replacing, reserve


def test_lkd_home_is_home_even_in_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "deep" / "home"))
    assert home() == tmp_path / "deep" / "home" and home().is_dir() and not list(home().iterdir())


def test_lkd_home_may_start_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LKD_HOME", "~/mine")
    assert home() == tmp_path / "mine"


@pytest.mark.parametrize("given", [None, ""])
def test_without_lkd_home_it_is_in_the_checkout(given, tmp_path, monkeypatch):
    monkeypatch.delenv("LKD_HOME", raising=False)
    if given is not None:
        monkeypatch.setenv("LKD_HOME", given)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(files, "CHECKOUT", tmp_path)
    assert home() == tmp_path / ".lkd"


def test_an_installed_package_uses_the_user_s_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("LKD_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(files, "CHECKOUT", tmp_path / "site-packages")
    assert home() == tmp_path / "data" / "lkd"


@pytest.mark.parametrize("folder", ["/proc/nope", "a file"])
def test_a_home_that_cannot_be_written_names_the_variable_to_set(folder, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LKD_HOME", folder)
    with pytest.raises(OSError, match=rf"cannot write to its home .*{Path(folder).name} .*set LKD_HOME"):
        home()


def test_replacing_shows_the_old_file_until_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    for text in ("first", "second"):
        before = path.read_text() if path.exists() else None
        with replacing(path) as temporary:
            temporary.write_text(text)
            assert (path.read_text() if path.exists() else None) == before
            assert temporary.parent == path.parent and temporary.suffix == ".csv"
        assert path.read_text() == text
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]


def test_an_open_old_file_stays_readable(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with path.open() as reader:
        with replacing(path) as temporary:
            temporary.write_text("new and longer")
        assert reader.read() == "old"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_block_that_fails_leaves_the_old_file_and_no_litter(error, old, tmp_path):
    path = tmp_path / "table.csv"
    if old:
        path.write_text(old)
    with pytest.raises(error):
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == ([("table.csv", "old")] if old else [])


def test_a_replaced_file_can_be_read_by_others(tmp_path):
    with replacing(tmp_path / "table.csv") as temporary:
        temporary.write_text("x")
    assert stat.S_IMODE((tmp_path / "table.csv").stat().st_mode) == 0o644


def test_weights_that_cannot_be_fetched_are_named_with_the_remedy():
    with pytest.raises(
        OSError, match=r"weights of timm model 'resnet18' could not be fetched .*\(no route\): let this"
    ):
        with fetching("resnet18"):
            raise RuntimeError("no route\nand a long trace")


def test_an_error_while_writing_names_the_file_and_that_of_another_file_stays(tmp_path):
    with pytest.raises(OSError, match=r"/table\.csv could not be written \(No space left on device\): make room"):
        with replacing(tmp_path / "table.csv"):
            raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError, match="/elsewhere/file"):
        with replacing(tmp_path / "table.csv"):
            Path("/elsewhere/file").read_bytes()


def test_space_that_is_not_there_is_not_reserved(tmp_path):
    with pytest.raises(OSError, match=rf"{tmp_path.name} has no room for [\d,]+ bytes \(.*\): make room"):
        reserve(tmp_path / "space", 2**55)
    assert not list(tmp_path.iterdir())
