"""Checkpoints: from which a run that was interrupted goes on."""

import hashlib
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import torch

from lkd.util.files import reading, remedy_for, reserve

_KEPT = 2
_OF = "lkd"
"""Key of the run and the conditions in a checkpoint."""
_MARGIN = 2**20
"""Bytes of a checkpoint, at most, besides its tensors."""


class Checkpoints:
    """The last two checkpoints of a run, each a file `<steps>-<digest of its content>.pt`.

    As a context, it takes the space of the next checkpoint ahead, and gives it back at the end. So the state of a run
    can be written whatever else fills the disk in the meantime.

    Args:
        folder: where they lie, called as their run; it need not be there.
        conditions: values by name that must be the same when the run goes on, such as the hash of the code.

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
        """Take the space of the next checkpoint on the disk.

        Args:
            tensors: bytes of the tensors in it.

        Raises:
            OSError: there is too little, or it cannot be written to; says how much is needed, or the remedy.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = f"{remedy_for(error)}, and run again"
            raise OSError(f"the folder {self.folder} could not be made ({error.strerror}): {remedy}") from error
        self.size = tensors + _MARGIN
        reserve(self.reserved, self.size)

    def save(self, steps: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint into the space that was reserved, and reserve that of the next; the oldest of three goes.

        Args:
            steps: done so far.
            state: tensors and plain values.

        Raises:
            OSError: it cannot be written, and the checkpoints before it stay; or it was written, and there is no room
                for the next one.
        """
        written = self.write(steps, state)
        others = [path for path in self._files() if path != written]
        for old in (*others[_KEPT - 1 :], *self.folder.glob(".*.pt")):
            _remove(old)
        if self.size:
            try:
                reserve(self.reserved, max(self.size, written.stat().st_size + _MARGIN))
            except OSError as error:
                raise OSError(f"{error}, and run again; step {steps} is kept, nothing is lost") from error

    def write(self, steps: int, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint into the space that was reserved, and nothing else.

        Raises:
            OSError: it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.reserved.open("r+b" if self.reserved.exists() else "w+b") as file:
                torch.save({**state, _OF: {"run": self.folder.name, **self.conditions}}, file)
                file.truncate()
                os.fsync(file.fileno())
            return self.reserved.replace(self.folder / f"{steps:09}-{_digest(self.reserved)}.pt")
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                self.reserved.unlink()
            raise OSError(
                f"the checkpoint of step {steps} could not be written to {self.folder} ({error}): {remedy_for(error)}, "
                "and run again; what was finished before is kept"
            ) from error

    @contextmanager
    def outlasting(self, steps: int, state: Mapping[str, Any]) -> Iterator[None]:
        """Keep the state of a finished training where the block, which writes its run, finds no room for it.

        Args:
            steps: done.
            state: tensors and plain values.

        Raises:
            OSError: that of the block; says that the state is kept.
        """
        try:
            yield
        except OSError as error:
            self.write(steps, state)
            raise OSError(f"{error}; the finished training is kept") from error

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint of this run that is as it was written; None where there is none.

        Warns of each one that is damaged, or of another run, and passes it over.

        Raises:
            OSError: it cannot be read; names it and the remedy.
            ValueError: it was written under other conditions; names them and the remedy.
        """
        for path in self._files():
            with reading(path, "checkpoint", "remove it, and run again: training goes on from the one before it"):
                whole = path.is_file() and path.stem.partition("-")[2] == _digest(path)
                state = torch.load(path, map_location="cpu", weights_only=True) if whole else {}
            written = state.pop(_OF, {"run": self.folder.name, **self.conditions})  # an earlier lkd wrote none
            if whole and written["run"] == self.folder.name:
                self._check_conditions(path, written)
                return state
            problem = f"of run {written['run']}" if whole else "damaged"
            warnings.warn(f"checkpoint {path} is {problem}: training goes on from the one before it", stacklevel=2)
        return None

    def _check_conditions(self, path: Path, written: Mapping[str, str]) -> None:
        for name, value in self.conditions.items():
            if written.get(name) != value:
                raise ValueError(
                    f"checkpoint {path} was written with {name} {written.get(name)}, now it is {value}: restore that, "
                    f"or remove {self.folder} to train from the beginning"
                )

    def clear(self) -> None:
        """Remove all checkpoints, and the space reserved for the next."""
        for path in (*self.folder.glob("*.pt"), *self.folder.glob(".*.pt")):
            _remove(path)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*-*.pt"), reverse=True)


def _remove(path: Path) -> None:
    """Remove a checkpoint, or a folder that lies in its place."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def check_digest(path: Path) -> None:
    """Compare a checkpoint's content with the digest in its name.

    Raises:
        OSError, ValueError: it cannot be read, or is damaged; names it and the remedy.
    """
    with reading(path, "checkpoint", "remove it: training goes on from the one before it"):
        if path.stem.partition("-")[2] != _digest(path):
            raise ValueError("its content is not that of the digest in its name")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
