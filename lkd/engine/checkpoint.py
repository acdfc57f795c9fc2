"""Checkpoints of interrupted runs."""

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import torch

from lkd.util.files import reading, remedy_for, reserve, sha256

_MAX_CHECKPOINTS = 2
_HEADER = "lkd"
"""Key in a checkpoint's dict that holds the run's id and the conditions."""
_MARGIN = 2**20
"""Upper bound on the bytes of a checkpoint that are not tensors."""


class Checkpoints:
    """The last two checkpoints of a run, each a file `<steps>-<digest of its content>.pt`.

    Disk space for the next checkpoint is reserved, in case the disk fills up. As a context manager, it frees that space
    at the end.

    Args:
        folder: folder of the checkpoints, named by the run's id; created when needed.
        conditions: named values that must be unchanged on resuming, such as the hash of the code.

    Example:
        >>> import tempfile
        >>> from lkd.engine.checkpoint import Checkpoints
        >>> with Checkpoints(tempfile.mkdtemp()) as checkpoints:
        ...     checkpoints.reserve(1000)
        ...     checkpoints.save(5, {"step": 5})
        >>> checkpoints.load()
        {'step': 5}
    """

    def __init__(self, folder: str | Path, conditions: Mapping[str, str] = MappingProxyType({})):
        self.folder, self.conditions = Path(folder), dict(conditions)
        self.reserved = self.folder / ".next.pt"
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.size:  # another process of this run took the space
            return
        self.reserved.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def reserve(self, tensors: int) -> None:
        """Reserve disk space for the next checkpoint.

        Args:
            tensors: bytes of its tensors.

        Raises:
            OSError: too little space, or a folder that cannot be written; names the space needed, or the remedy.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = f"{remedy_for(error)}, and run again"
            raise OSError(f"the folder {self.folder} could not be created ({error.strerror}): {remedy}") from error
        self.size = tensors + _MARGIN
        reserve(self.reserved, self.size)

    def save(self, steps: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint into the reserved space, remove the oldest of three, and reserve space for the next.

        Args:
            steps: number of steps done.
            state: tensors and plain values.

        Raises:
            OSError: the checkpoint cannot be written (earlier ones are kept), or there is no space for the next one.
        """
        written = self.write(steps, state)
        others = [path for path in self._files() if path != written]
        for old in (*others[_MAX_CHECKPOINTS - 1 :], *self.folder.glob(".*.pt")):
            _remove(old)
        if self.size:
            try:
                reserve(self.reserved, max(self.size, written.stat().st_size + _MARGIN))
            except OSError as error:
                raise OSError(f"{error}, and run again; the checkpoint of step {steps} is kept") from error

    def write(self, steps: int, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint into the reserved space."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.reserved.open("r+b" if self.reserved.exists() else "w+b") as file:
                torch.save({**state, _HEADER: {"run": self.folder.name, **self.conditions}}, file)
                file.truncate()
                os.fsync(file.fileno())
            return self.reserved.replace(self.folder / f"{steps:09}-{_digest(self.reserved)}.pt")
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                self.reserved.unlink()
            raise OSError(
                f"the checkpoint of step {steps} could not be written to {self.folder} ({error}): {remedy_for(error)}, "
                "and run again; earlier checkpoints are kept"
            ) from error

    @contextmanager
    def outlasting(self, steps: int, state: Mapping[str, Any]) -> Iterator[None]:
        """Write a checkpoint of the finished training if the block, which saves the run, raises an OSError."""
        try:
            yield
        except OSError as error:
            self.write(steps, state)
            raise OSError(f"{error}; the finished training is kept") from error

    def load(self) -> dict[str, Any] | None:
        """The newest intact checkpoint of this run; None without one.

        Warns of each checkpoint that is damaged or of another run, and skips it.

        Raises:
            OSError: a checkpoint that cannot be read; names it and the remedy.
            ValueError: a checkpoint written under other conditions; names them and the remedy.
        """
        for path in self._files():
            with reading(path, "checkpoint", "remove it, and run again: training resumes from the one before it"):
                whole = path.is_file() and path.stem.partition("-")[2] == _digest(path)
                state = torch.load(path, map_location="cpu", weights_only=True) if whole else {}
            written = state.pop(_HEADER, {"run": self.folder.name, **self.conditions})  # older checkpoints have none
            if whole and written["run"] == self.folder.name:
                self._check_conditions(path, written)
                return state
            problem = f"of run {written['run']}" if whole else "damaged"
            warnings.warn(f"checkpoint {path} is {problem}: training resumes from the one before it", stacklevel=2)
        return None

    def _check_conditions(self, path: Path, written: Mapping[str, str]) -> None:
        for name, value in self.conditions.items():
            if written.get(name) != value:
                raise ValueError(
                    f"checkpoint {path} was written with {name} {written.get(name)}, but it is now {value}: restore "
                    f"the former, or remove {self.folder} to train from the beginning"
                )

    def clear(self) -> None:
        """Remove all checkpoints and the reserved space."""
        for path in (*self.folder.glob("*.pt"), *self.folder.glob(".*.pt")):
            _remove(path)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*-*.pt"), reverse=True)


def _remove(path: Path) -> None:
    """Remove a checkpoint, or a folder in its place."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def check_digest(path: Path) -> None:
    """Compare a checkpoint's content with the digest in its name.

    Raises:
        OSError, ValueError: the file cannot be read, or is damaged; names it and the remedy.
    """
    with reading(path, "checkpoint", "remove it: training resumes from the one before it"):
        if path.stem.partition("-")[2] != _digest(path):
            raise ValueError("its content does not match the digest in its name")


def _digest(path: Path) -> str:
    return sha256(path)[:16]
