"""Folders that other users can open or write to are refused by name."""

import os
from pathlib import Path

import pytest

from lkd.util.private import check_guarded, existing_private_folder, private_folder

pytestmark = pytest.mark.usefixtures("temporary")


def test_a_folder_that_others_can_open_is_refused() -> None:
    folder = private_folder()
    folder.chmod(0o755)
    with pytest.raises(
        PermissionError, match=rf"{folder} can be opened by others \(mode 755\): remove it, or set TMPD"
    ):
        private_folder()


def test_a_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, user = private_folder(), os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    folder.rename(folder.with_name(folder.name.replace(str(user), str(user + 1), 1)))
    with pytest.raises(PermissionError, match=rf"belongs to user {user}, not to {user + 1}: remove it, or set TMPDIR"):
        private_folder()


def test_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    folder = private_folder()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="is not a folder: remove it, or set TMPDIR"):
        private_folder()


def test_a_folder_of_this_user_is_there_once_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert existing_private_folder() is None
    assert private_folder() == existing_private_folder()
    private_folder().chmod(0o755)
    assert existing_private_folder() is None


@pytest.mark.parametrize(("mode", "refused"), [(0o700, False), (0o755, False), (0o1777, False), (0o775, True)])
def test_a_folder_that_others_can_replace_is_refused(mode: int, refused: bool, temporary: Path) -> None:
    folder = temporary / "open" / "jobs"
    folder.mkdir(parents=True)
    folder.parent.chmod(mode)
    if not refused:
        check_guarded(folder, "give another")
        return
    with pytest.raises(PermissionError, match=r"/open can be written by others \(mode 775\): give another"):
        check_guarded(folder, "give another")


def test_a_folder_below_that_of_another_user_is_refused(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() == 0:
        os.chown(temporary, 4321, -1)
    other = temporary.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: other + 1)
    with pytest.raises(
        PermissionError, match=rf"{temporary} belongs to user {other}, who can replace .*: give another"
    ):
        check_guarded(temporary, "give another")
