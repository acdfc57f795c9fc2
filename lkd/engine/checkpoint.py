"""Checkpoints: from which a run that was interrupted goes on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lkd.files import replacing

_KEPT = 2


class Checkpoints:
    """The last two checkpoints of a run, each a file `<steps>-<digest of its content>.pt`.

    Args:
        folder: where they lie; it need not be there.

    Example:
        >>> import tempfile
        >>> from lkd.engine.checkpoint import Checkpoints
        >>> checkpoints = Checkpoints(tempfile.mkdtemp())
        >>> checkpoints.save(5, {"step": 5})
        >>> checkpoints.load()
        {'step': 5}
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def save(self, steps: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint; it appears whole, and the oldest of three goes.

        Args:
            steps: done so far.
            state: tensors and plain values.

        Raises:
            OSError: it cannot be written; the checkpoints before it stay.
        """
        try:
            with replacing(self.folder / f"{steps:09}.pt") as temporary:
                with temporary.open("wb") as file:
                    torch.save(dict(state), file)
                named = self.folder / f"{steps:09}-{_digest(temporary)}.pt"
            (self.folder / f"{steps:09}.pt").replace(named)
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"the checkpoint of step {steps} could not be written to {self.folder} ({error}): make room, and run "
                "again; what was finished before is kept"
            ) from error
        others = [path for path in self._files() if path != named]
        for old in (*others[_KEPT - 1 :], *self.folder.glob(".*.pt")):
            old.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that is as it was written; None where there is none."""
        for path in self._files():
            if path.stem.partition("-")[2] == _digest(path):
                return torch.load(path, map_location="cpu", weights_only=True)
        return None

    def clear(self) -> None:
        """Remove all checkpoints."""
        for path in (*self.folder.glob("*.pt"), *self.folder.glob(".*.pt")):
            path.unlink(missing_ok=True)
        if self.folder.is_dir():
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*-*.pt"), reverse=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
