"""Runs in processes of their own that are killed at a given step, or while they write a checkpoint."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lkd import Recipe
from lkd.runs.store import Run, Store

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["lkd.engine.run", "timm.models", "sklearn.datasets"])
SECONDS = 240
During = Literal["training", "checkpoint", "saving"]


class Killed:
    """Ends its process by SIGKILL when so many steps have been done since it started."""

    def __init__(self, step: int):
        self.left = step

    def __call__(self, images: int) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def work(
    recipe: Recipe, folder: Path, options: dict[str, Any], step: int | None, during: During, place: dict[str, str]
) -> None:
    """Run a recipe to its end or until it is killed."""
    import torch

    import lkd.runs.store
    from lkd.engine import Options
    from lkd.engine.run import execute

    os.environ.update(place)
    torch.set_num_threads(1)
    progress = Killed(step if step is not None and during == "training" else 10**9)
    if step is not None and during == "saving":
        lkd.runs.store.save_model = lambda *given: Killed(0)(1)
    if step is not None and during == "checkpoint":
        left, save = Killed(step), torch.save

        def half(state: Any, file: Any, **settings: Any) -> None:
            if isinstance(state, dict) and "lesson" in state:
                file.write(b"half")
                left(1)
                file.seek(0)
            save(state, file, **settings)

        torch.save = half
    execute(recipe, Store(folder), {}, options=Options(checkpoint_seconds=0, **options), progress=progress)


def attempt(
    recipe: Recipe,
    folder: Path,
    *,
    processes: int = 1,
    step: int | None = None,
    during: During = "training",
    **options: Any,
) -> list[int | None]:
    """Carry out a recipe in processes of their own; exit codes, -9 for a process that was killed.

    Args:
        recipe, folder: what to run, and the store.
        processes: how many, joined by gloo. As a launcher does, all are killed when one has died.
        step: the main process is killed when it has done so many; None for not at all.
        during: where the kill comes: after a step, while its checkpoint is written, or while the run is saved.
        options: of the run.
    """
    started, port = [], _free_port()
    for rank in range(processes):
        place = _place(rank, processes, port) if processes > 1 else {}
        arguments = (recipe, folder, options, step if rank == 0 else None, during, place)
        started.append(CONTEXT.Process(target=work, args=arguments))
        started[-1].start()
    started[0].join(SECONDS)
    for process in started:
        if started[0].exitcode != 0:
            process.kill()
        process.join(SECONDS)
    return [process.exitcode for process in started]


def finished(recipe: Recipe, folder: Path, steps: Sequence[tuple[int, During]], **how: Any) -> Run:
    """The run of a recipe that was killed at each of some steps since its start, and then left alone."""
    for step, during in steps:
        codes = attempt(recipe, folder, step=step, during=during, **how)
        assert codes[0] == -signal.SIGKILL, codes
    codes = attempt(recipe, folder, **how)
    assert set(codes) == {0}, codes
    run = Store(folder).find(recipe)
    assert run is not None
    return run


def _place(rank: int, processes: int, port: int) -> dict[str, str]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    place["OMP_NUM_THREADS"] = 1
    return {name: str(value) for name, value in place.items()}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
