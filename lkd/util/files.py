"""Locations of lkd's files, and reading and writing with clear errors."""

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
"""The folder of the published records."""


def in_checkout() -> bool:
    """Whether the package is in a checkout of the project, with chapters and published records."""
    return (CHECKOUT / "notebooks").is_dir() and (CHECKOUT / "pyproject.toml").is_file()


def require_checkout(what: str) -> None:
    """Raise a FileNotFoundError outside a checkout of the project.

    Args:
        what: files that only a checkout has, in the plural.
    """
    if not in_checkout():
        raise FileNotFoundError(
            f"there are no {what} here: they come with a checkout of the project, not with the package"
        )


def home_folder() -> Path:
    """The path of lkd's home folder, which may be missing or read-only.

    This is `LKD_HOME` if set; `.lkd/` in a checkout of the project; else the user's data folder.

    Example:
        >>> from lkd.util.files import home_folder
        >>> home_folder().is_absolute()
        True
    """
    if given := os.environ.get("LKD_HOME"):
        return Path(given).expanduser().resolve()
    return CHECKOUT / ".lkd" if in_checkout() else platformdirs.user_data_path("lkd")


def home() -> Path:
    """The folder of all local files (data, runs, executed chapters), created if missing; see `home_folder`.

    Raises:
        OSError: the folder cannot be created or written to.

    Example:
        >>> from lkd.util.files import home
        >>> home().is_dir()
        True
    """
    return writable(home_folder(), "its home", "set LKD_HOME to a folder that you can write to")


def writable(folder: Path, role: str, remedy: str) -> Path:
    """Create a folder if it is missing, and check that it is writable.

    Args:
        folder: its path.
        role: its use, for the error message.
        remedy: the fix, for the error message.

    Raises:
        OSError: the folder cannot be created or written to.
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


def json_digest(content: Any) -> str:
    """The SHA-256 of plain values as canonical JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def reading(path: Path, kind: str, remedy: str) -> Iterator[None]:
    """Re-raise any error of the block with the name of the file and the remedy.

    Args:
        path: the file or folder.
        kind: the expected content, "JSON" for example.
        remedy: the fix for an unreadable file.

    Raises:
        FileNotFoundError: the file is missing.
        OSError: the file cannot be read.
        ValueError: the file is damaged or has other content.

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
    except Exception as error:  # each library raises its own errors for a damaged file
        raise ValueError(f"{path} is damaged or no {kind} ({_reason(error)}): {remedy}") from error


@contextmanager
def fetching(name: str) -> Iterator[None]:
    """Re-raise any error of the block, which loads a pretrained timm model, with the model's name and the remedy.

    Raises:
        OSError: the weights are damaged, or neither on this machine nor available from the hub.
    """
    try:
        yield
    except Exception as error:  # of the hub, of the network, of the file
        raise OSError(
            f"the pretrained weights of timm model {name!r} could not be fetched or read ({_reason(error)}): let this "
            "machine reach the Hugging Face hub once, copy the hub's cache (HF_HOME) from one that can, or use your "
            "own model"
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error's message, or else its type."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError, OSError, ValueError: see `reading`; also for JSON that is not an object.
    """
    with reading(path, "JSON object", remedy):
        content = json.loads(path.read_text("utf8"))
        if not isinstance(content, dict):
            raise TypeError(f"it contains a {type(content).__name__}")
    return content


def read_history(path: Path, remedy: str) -> "pd.DataFrame":
    """The history of a run from its CSV file: one row per epoch.

    Raises:
        FileNotFoundError, OSError, ValueError: see `reading`; also for a truncated last row or a missing epoch column.
    """
    import pandas as pd

    with reading(path, "history of a run", remedy):
        table = pd.read_csv(path)
        if "epoch" not in table:
            raise ValueError("it has no column 'epoch'")
        if not path.read_bytes().endswith(b"\n"):
            raise ValueError("its last row is cut off")
        if texts := [str(name) for name, column in table.items() if column.dtype.kind not in "biuf"]:
            raise ValueError(f"column {texts[0]!r} contains text")
    return table


def remedy_for(error: Exception) -> str:
    """The remedy for a failure to write a file or create a folder.

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
    """Create a file of `size` bytes, and allocate its disk space now if the file system supports that.

    Raises:
        OSError: too little space, or the file cannot be created; no file remains.

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
    """Re-raise a system error of the block, which writes a file or folder, with its path and the remedy.

    Raises:
        OSError: the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename and not str(error.filename).startswith(str(path.parent))):
            raise
        raise OSError(f"{path} could not be written ({error.strerror}): {remedy}") from error


def file_path(path: str | os.PathLike[str], ending: str) -> Path:
    """The path of a file to write.

    Args:
        path: the path, with ~ for the user's home.
        ending: the end of its name, with the dot.

    Raises:
        IsADirectoryError: a folder.
        TypeError: not a path.
        ValueError: a name with another ending.

    Example:
        >>> from lkd.util.files import file_path
        >>> file_path("exports/student.onnx", ".onnx").name
        'student.onnx'
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be the path of a file, got {path!r}")
    found = Path(path).expanduser()
    if found.suffix != ending:
        raise ValueError(f"path must end in {ending}, got {str(found)!r}")
    if found.is_dir():
        raise IsADirectoryError(f"{found} is a folder: give the path of a file")
    return found


def temporary_beside(path: Path) -> Path:
    """A unique temporary name in the folder of `path`.

    Example:
        >>> from pathlib import Path
        >>> from lkd.util.files import temporary_beside
        >>> temporary_beside(Path("runs/metrics.json")).match("runs/.metrics.json.tmp-????????.json")
        True
    """
    return path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file atomically: yields a temporary file, which replaces `path` if the block succeeds.

    Raises:
        OSError: the file cannot be written; names it and the remedy.
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
