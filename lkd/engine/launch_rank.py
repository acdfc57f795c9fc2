"""One rank of a launch: `python -m lkd.engine.launch_rank FOLDER`, started by `lkd.engine.launch` via Accelerate."""

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from lkd.engine.accelerators import processes
from lkd.engine.run import execute
from lkd.objectives.own import add
from lkd.runs.launches import DIGEST, Launch
from lkd.util.files import reading
from lkd.util.progress import Tally

_TALLY_SECONDS = 0.3


def work(launch: Launch, rank: int) -> None:
    """Run a launch's task as one of its ranks, and record the outcome in the launch's folder."""
    with launch.register_rank(rank):
        try:
            recipe, store, objects, objectives, resume, options = read_task(launch)
            for name, objective in objectives.items():
                add(name, objective)
            main = processes().is_main_process
            processes().wait_for_everyone()
            if main:
                launch.task.unlink()
            progress = Tally(launch.progress, _TALLY_SECONDS) if main else None
            execute(recipe, store, objects, resume=resume, options=options, progress=progress)
        except Exception as error:
            with suppress(OSError), launch.failed.open("x") as file:
                file.write(f"{type(error).__name__}: {error}")
            raise
        if main:
            launch.done.touch()


def read_task(launch: Launch) -> tuple[Any, ...]:
    """Read the task of a launch. A pickle can execute code, so its digest is compared with the one sent.

    Raises:
        OSError: the file cannot be read.
        ValueError: another digest, or an object that cannot be unpickled here.
    """
    with reading(launch.task, "task of this launch", "start the run again"), launch.task.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != os.environ.get(DIGEST):
            raise ValueError(f"its SHA-256 is not the one in {DIGEST}")
        file.seek(0)
        task: tuple[Any, ...] = torch.load(file, weights_only=False)
    return task


if __name__ == "__main__":
    work(Launch(Path(sys.argv[1])), int(os.environ["RANK"]))
