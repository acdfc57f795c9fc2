"""Launches: the files by which several processes of one run and those who wait for them know of each other.

They lie in a folder of this user on this machine, which nobody else can open, and not in the store, which may be shared
with others or come from them: ranks load a pickle, which can execute code, and are ended by the ids that stand there.
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
from lkd.util.locks import is_held, share_until_exit, take, wait_for_holder
from lkd.util.private import SET_TMPDIR, existing_private_folder, private_folder
from lkd.util.waiting import Patience

DIGEST = "LKD_TASK"
"""Environment variable: the SHA-256 of the task, which the ranks alone are told."""

_LOOK_SECONDS = 0.3
_SAID = 12
"""Lines at the end of what failed processes printed that are shown."""


class Launch:
    """One run in several processes: their launcher, and the ranks that it starts.

    Each of them holds a file locked as long as it lives, in which its id stands.

    Attributes:
        folder: of the files.
        task: a pickle of what the ranks have to do.
        log: what all of them print.
        elastic: the folder of torchrun's own logs.
        progress: how many images have gone through training.
        done: is there when the work is done.
        failed: the error of the first rank that had one.
        launcher: the file that the launcher holds locked.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.task, self.log, self.elastic = folder / "task.pt", folder / "log", folder / "elastic"
        self.progress, self.done, self.failed = folder / "progress", folder / "done", folder / "failed"
        self.launcher = folder / "alive"

    @classmethod
    def of(cls, store: Path, run_id: str) -> "Launch":
        """That of a run in a store; its folder is made if it is not there.

        Raises:
            OSError: see `private_folder`.
        """
        folder = private_folder() / f"{run_id}-{_key(store)}"
        with writing(folder, SET_TMPDIR):
            folder.mkdir(mode=0o700, exist_ok=True)
        return cls(folder)

    def ranks(self) -> list[Path]:
        """The files of the ranks that have begun, which they hold locked."""
        return list(self.folder.glob("alive-*"))

    def processes(self) -> list[int]:
        """The ids of the launcher and its ranks, as far as they live."""
        texts = [path.read_text() for path in (self.launcher, *self.ranks()) if is_held(path)]
        return [int(text) for text in texts if text]

    def at_work(self, rank: int) -> IO[str]:
        """The file of a rank, locked until it is closed; this process ends when the launcher has ended.

        Args:
            rank: the number of this process.
        """
        file = locked(self.folder / f"{self.launcher.name}-{rank}")
        share_until_exit(self.folder)
        file.write(str(os.getpid()))
        file.flush()
        Thread(target=self._end_with_launcher, daemon=True).start()
        return file

    def _end_with_launcher(self) -> None:
        wait_for_holder(self.launcher)
        os._exit(1)

    def clear(self) -> None:
        """Remove what an earlier launch has left, but not the files that may be locked."""
        shutil.rmtree(self.elastic, ignore_errors=True)
        for left in (self.task, self.progress, self.done, self.failed):
            left.unlink(missing_ok=True)

    def last_words(self) -> str:
        """The error that ended a rank, or the last of what all of them printed."""
        if self.failed.exists() and (said := self.failed.read_text()):
            return said
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_SAID:])


def locked(path: Path) -> IO[str]:
    """An empty file to write to, locked until it is closed; waits for a process that holds it."""
    file, patience = path.open("a"), Patience()
    while not take(file):
        patience(f"an earlier process of this launch, which holds {path}")
        time.sleep(_LOOK_SECONDS)
    file.truncate(0)
    return file


def ended(store: Path) -> Iterator[tuple[str, Path]]:
    """The folders of launches that have ended, each with the id of its run.

    Args:
        store: the folder of the store that has the runs.
    """
    own = existing_private_folder()
    for folder in own.glob(f"*-{_key(store)}*") if own else ():
        if not any(map(is_held, folder.glob("alive*"))):
            yield folder.name.lstrip(".").partition("-")[0], folder


def left_in(store: Path) -> Iterator[tuple[str, Path]]:
    """The files of launches that have ended, as earlier versions left them in a store, each with the id of its run."""
    for file in (store / "launches").glob("*"):
        run_id = file.name.lstrip(".").partition(".")[0]
        if not any(map(is_held, file.parent.glob(f"{run_id}.alive*"))):
            yield run_id, file


def _key(store: Path) -> str:
    return hashlib.sha256(str(store).encode()).hexdigest()[:8]
