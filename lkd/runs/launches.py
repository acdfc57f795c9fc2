"""Launch files, which coordinate the processes of a multi-process run and processes that wait for it.

They are in a private folder, not in the store, which other users may share: ranks load a pickle from it, which can
execute code, and are terminated by the process ids in these files.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import IO

from lkd.util.files import writing
from lkd.util.locks import is_held, share_until_exit, try_lock, wait_for_holder
from lkd.util.private import SET_TMPDIR, existing_private_folder, private_folder
from lkd.util.waiting import Patience

DIGEST = "LKD_TASK"
"""Environment variable with the SHA-256 of the task, set for the ranks."""

_RETRY_LOCK_SECONDS = 0.3
_SHOWN_LINES = 12
"""Number of last log lines shown for a failed launch."""


class Launch:
    """The files of one run in several processes: a launcher, and the ranks that it starts.

    Each process writes its id to a file, and holds the file's lock until it ends.

    Attributes:
        folder: the folder of the files.
        task: a pickle of the ranks' task.
        log: output of all processes.
        elastic: the folder of torchrun's own logs.
        progress: number of images trained on.
        done: exists when the work is done.
        failed: the first error of a rank.
        launcher: the file locked by the launcher.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.task, self.log, self.elastic = folder / "task.pt", folder / "log", folder / "elastic"
        self.progress, self.done, self.failed = folder / "progress", folder / "done", folder / "failed"
        self.launcher = folder / "alive"

    @classmethod
    def of(cls, store: Path, run_id: str) -> "Launch":
        """The launch of a run in a store; its folder is created if missing.

        Raises:
            OSError: see `private_folder`.
        """
        folder = private_folder() / f"{run_id}-{_store_key(store)}"
        with writing(folder, SET_TMPDIR):
            folder.mkdir(mode=0o700, exist_ok=True)
        return cls(folder)

    def ranks(self) -> list[Path]:
        """The locked files of the ranks that have started."""
        return list(self.folder.glob("alive-*"))

    def processes(self) -> list[int]:
        """The process ids of the launcher and ranks that still run."""
        texts = [path.read_text() for path in (self.launcher, *self.ranks()) if is_held(path)]
        return [int(text) for text in texts if text]

    def register_rank(self, rank: int) -> IO[str]:
        """Register this process as a rank, which ends with the launcher; returns its file, locked until closed.

        Args:
            rank: the number of this process.
        """
        file = open_locked(self.folder / f"{self.launcher.name}-{rank}")
        share_until_exit(self.folder)
        file.write(str(os.getpid()))
        file.flush()
        Thread(target=self._end_with_launcher, daemon=True).start()
        return file

    def _end_with_launcher(self) -> None:
        wait_for_holder(self.launcher)
        os._exit(1)

    def clear(self) -> None:
        """Remove the files of an earlier launch, except those that may be locked."""
        shutil.rmtree(self.elastic, ignore_errors=True)
        for left in (self.task, self.progress, self.done, self.failed):
            left.unlink(missing_ok=True)

    def failure_text(self) -> str:
        """The first error of a rank, or the last lines of the log."""
        if self.failed.exists() and (error := self.failed.read_text()):
            return error
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:])


def open_locked(path: Path) -> IO[str]:
    """Open an empty file for writing, locked until it is closed; waits for another holder of the lock."""
    file, patience = path.open("a"), Patience()
    while not try_lock(file):
        patience(f"an earlier process of this launch, which holds {path}")
        time.sleep(_RETRY_LOCK_SECONDS)
    file.truncate(0)
    return file


def ended_launches(store: Path) -> Iterator[tuple[str, Path]]:
    """The folders of ended launches, each with the id of its run.

    Args:
        store: the folder of the runs' store.
    """
    private = existing_private_folder()
    for folder in private.glob(f"*-{_store_key(store)}*") if private else ():
        if not any(map(is_held, folder.glob("alive*"))):
            yield folder.name.lstrip(".").partition("-")[0], folder


def legacy_files(store: Path) -> Iterator[tuple[str, Path]]:
    """Files of ended launches that earlier versions kept in the store, each with the id of its run."""
    for file in (store / "launches").glob("*"):
        run_id = file.name.lstrip(".").partition(".")[0]
        if not any(map(is_held, file.parent.glob(f"{run_id}.alive*"))):
            yield run_id, file


def _store_key(store: Path) -> str:
    return hashlib.sha256(str(store).encode()).hexdigest()[:8]
