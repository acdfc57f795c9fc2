"""Where this machine's files live, and how they are written."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

CHECKOUT = Path(__file__).resolve().parents[1]

PUBLISHED = CHECKOUT / "book" / "published"
"""Where the published records lie."""


def in_checkout() -> bool:
    """Whether the package lies in a checkout of the project, with its chapters and published records."""
    return (CHECKOUT / "notebooks").is_dir() and (CHECKOUT / "pyproject.toml").is_file()


def require_checkout(what: str) -> None:
    """Refuse what needs a checkout where there is none.

    Raises:
        FileNotFoundError: `what`, in the plural, is not here.
    """
    if not in_checkout():
        raise FileNotFoundError(
            f"there are no {what} here: they come with a checkout of the project, not with the package"
        )


def home() -> Path:
    """The folder that holds all that this machine produces: data, runs, executed chapters.

    `LKD_HOME` if it is set; `.lkd/` in a checkout of the project; else the user's data folder.

    Raises:
        OSError: the folder cannot be made or written.

    Example:
        >>> from lkd.files import home
        >>> home().is_dir()
        True
    """
    if given := os.environ.get("LKD_HOME"):
        folder = Path(given).expanduser().resolve()
    elif in_checkout():
        folder = CHECKOUT / ".lkd"
    else:
        folder = platformdirs.user_data_path("lkd")
    return writable(folder, "its home", "set LKD_HOME to a folder that you can write to")


def writable(folder: Path, role: str, remedy: str) -> Path:
    """The folder, made if it was not there.

    Raises:
        OSError: it cannot be made or written; says what it is for and what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"lkd cannot write to {role} {folder} ({error.strerror}): {remedy}") from error
    return folder


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; becomes `path` when the block ends well, and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
