"""Where this machine's files live, and how they are written."""

import errno
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

if TYPE_CHECKING:
    import pandas as pd

CHECKOUT = Path(__file__).resolve().parents[2]

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


def home_folder() -> Path:
    """Where the home of this machine's files is; it may be missing, or such that it can only be read.

    `LKD_HOME` if it is set; `.lkd/` in a checkout of the project; else the user's data folder.

    Example:
        >>> from lkd.util.files import home_folder
        >>> home_folder().is_absolute()
        True
    """
    if given := os.environ.get("LKD_HOME"):
        return Path(given).expanduser().resolve()
    return CHECKOUT / ".lkd" if in_checkout() else platformdirs.user_data_path("lkd")


def home() -> Path:
    """The folder that holds all that this machine produces: data, runs, executed chapters; see `home_folder`.

    Raises:
        OSError: the folder cannot be made or written.

    Example:
        >>> from lkd.util.files import home
        >>> home().is_dir()
        True
    """
    return writable(home_folder(), "its home", "set LKD_HOME to a folder that you can write to")


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
def reading(path: Path, kind: str, remedy: str) -> Iterator[None]:
    """Turn any error of the block, which reads a file, into one that names the file and the remedy.

    Args:
        path: the file, or the folder.
        kind: what it should be, "JSON" for example.
        remedy: what to do about a file that cannot be read.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: it is damaged, or something else.

    Example:
        >>> from pathlib import Path
        >>> from lkd.util.files import reading
        >>> with reading(Path("seeds.txt"), "list of seeds", "write it"):
        ...     int("a")
        Traceback (most recent call last):
        ValueError: seeds.txt is damaged or no list of seeds (invalid literal for int() with base 10: 'a'): write it
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing: {remedy}") from error
    except OSError as error:
        raise OSError(f"{path} cannot be read ({error.strerror or error}): {remedy}") from error
    except Exception as error:  # each library has errors of its own for a damaged file
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} is damaged or no {kind} ({reason}): {remedy}") from error


@contextmanager
def fetching(name: str) -> Iterator[None]:
    """Turn an error of the block, which makes a pretrained timm model, into one that names it and the remedy.

    Raises:
        OSError: its weights are neither on this machine nor to be had from the hub, or are damaged.
    """
    try:
        yield
    except Exception as error:  # of the hub, of the network, of the file
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise OSError(
            f"the pretrained weights of timm model {name!r} could not be fetched or read ({reason}): let this machine "
            "reach the Hugging Face hub once, copy the hub's cache (HF_HOME) from one that can, or give a model of "
            "your own"
        ) from error


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError, OSError, ValueError: see `reading`; also where the file holds no object.
    """
    with reading(path, "JSON object", remedy):
        content = json.loads(path.read_text("utf8"))
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
    return content


def read_history(path: Path, remedy: str) -> "pd.DataFrame":
    """The history of a run in a CSV file: one row an epoch.

    Raises:
        FileNotFoundError, OSError, ValueError: see `reading`; also where the file ends within a row, or has no epochs.
    """
    import pandas as pd

    with reading(path, "history of a run", remedy):
        table = pd.read_csv(path)
        if "epoch" not in table:
            raise ValueError("it has no column 'epoch'")
        if not path.read_bytes().endswith(b"\n"):
            raise ValueError("its last row is cut off")
        if texts := [str(name) for name, column in table.items() if column.dtype.kind not in "biuf"]:
            raise ValueError(f"column {texts[0]!r} holds text")
    return table


def remedy_for(error: Exception) -> str:
    """What to do where the system did not write a file or make a folder.

    Example:
        >>> import errno
        >>> from lkd.util.files import remedy_for
        >>> remedy_for(OSError(errno.ENOSPC, "No space left on device", "runs"))
        'make room'
    """
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError) and error.filename:
        path = Path(error.filename)
        return f"move {next(each for each in (path, *path.parents) if os.path.lexists(each))} away"
    if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
        return "allow this user to write there"
    known = getattr(error, "errno", None) not in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "remove the cause" if known else "make room"


def reserve(path: Path, size: int) -> None:
    """Make a file of `size` bytes that takes all of its space on the disk now, where the file system can do that.

    Raises:
        OSError: there is too little space, or the file cannot be made; nothing is left behind.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lkd.util.files import reserve
        >>> path = Path(tempfile.mkdtemp()) / "space"
        >>> reserve(path, 1000)
        >>> path.stat().st_size
        1000
    """
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        remedy = remedy_for(error)
        lacks = f"{path.parent} has no room for {size:,} bytes" if remedy == "make room" else f"{path} cannot be made"
        raise OSError(f"{lacks} ({error.strerror}): {remedy}") from error


@contextmanager
def writing(path: Path, remedy: str = "make room, or give another folder") -> Iterator[None]:
    """Turn an error of the system, while the block writes a file or folder, into one that names it and the remedy.

    Raises:
        OSError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename and not str(error.filename).startswith(str(path.parent))):
            raise
        raise OSError(f"{path} could not be written ({error.strerror}): {remedy}") from error


def temporary_beside(path: Path) -> Path:
    """A name beside `path` that no other process uses, of something that is being written.

    Example:
        >>> from pathlib import Path
        >>> from lkd.util.files import temporary_beside
        >>> temporary_beside(Path("runs/metrics.json")).match("runs/.metrics.json.tmp-????????.json")
        True
    """
    return path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; becomes `path` when the block ends well, and is removed otherwise.

    Raises:
        OSError: it cannot be written; names it and the remedy.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            temporary.touch(exist_ok=False)
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
