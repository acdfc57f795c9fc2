"""Several processes for one run: `accelerate launch` as a child that outlives whoever started it."""

import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn
from tqdm import tqdm

from lkd.engine.accelerators import processes
from lkd.engine.options import Options
from lkd.files import read_json, reading, replacing, writing
from lkd.progress import Tally, tallied
from lkd.recipe import Recipe
from lkd.store import Store
from lkd.waiting import Patience, held

_POLL_SECONDS = 0.3
_START_SECONDS = 300
_SAID = 12
"""Lines at the end of what failed processes printed that are shown."""


def launch(
    recipe: Recipe,
    store: Store,
    objects: Mapping[str, Any],
    resume: bool,
    num_processes: int,
    options: Options,
    images: int,
) -> None:
    """Carry out a recipe in several processes, and wait for them; if they are at work already, only wait.

    Args:
        recipe, store, objects, resume, options: as for `lkd.engine.run.carry_out`.
        num_processes: how many.
        images: that go through training, for the progress shown.

    Raises:
        RuntimeError: they failed; ends with what they said.
        TimeoutError: they have not begun after five minutes.
        ValueError: a model or data set that cannot be sent to them.
    """
    files = _Files(store, recipe)
    with held(store.lock(f"launch-{recipe.run_id}"), f"starts processes for run {recipe.run_id}", _START_SECONDS):
        if files.child_is_gone():
            for left_over in (files.progress, files.done, files.failed):
                left_over.unlink(missing_ok=True)
            _write_task(files, recipe, store, objects, resume, options)
            _start(files, num_processes)
    _follow(files, recipe, images)
    if not files.done.exists():
        raise RuntimeError(f"training in {num_processes} processes failed, as {files.log} says:\n{files.last_words()}")


def carry_out_task(path: Path) -> None:
    """What each of the processes does: carry out the recipe in a file.

    Models and data sets in the caller's memory come as a pickle, which can execute code: it is read only from the place
    in the store where `launch` put it for this very task, never from one that a file names.

    Args:
        path: a file that `launch` wrote, or a recipe's own `recipe.json`.

    Raises:
        ValueError: a file with something else.
    """
    from lkd.engine.run import carry_out

    task = _read(path)
    store = Store(task.get("store"))
    recipe = Recipe.from_dict(task["recipe"])
    files, main = _Files(store, recipe), processes().is_main_process
    with files.at_work(processes().process_index):
        try:
            own = path.resolve() == files.task.resolve() and files.objects.exists()
            with reading(files.objects, "pickle of models and data sets", "start the run again"):
                objects = torch.load(files.objects, weights_only=False) if own else {}
            carry_out(
                recipe,
                store,
                objects,
                resume=task.get("resume", True),
                options=Options(**task.get("options", {})),
                progress=Tally(files.progress, _POLL_SECONDS) if main and "task" in task else None,
            )
        except Exception as error:
            with suppress(OSError), files.failed.open("x") as file:
                file.write(f"{type(error).__name__}: {error}")
            raise
        if main:
            files.objects.unlink(missing_ok=True)
            files.done.write_text("")


def _read(path: Path) -> dict[str, Any]:
    task = read_json(path, "give the recipe.json of a run, or one of your own")
    recipe = task.get("recipe") if "task" in task else task
    if not isinstance(recipe, dict) or "student" not in recipe:
        raise ValueError(
            f'{path} has no recipe: it must be an object such as {{"data": "digits", "student": "mini_vit"}}'
        )
    return task if "task" in task else {"recipe": task}


class _Files:
    """What tells parent and children about each other."""

    def __init__(self, store: Store, recipe: Recipe):
        folder = store.folder / "launches"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        names = ("task.json", "objects.pt", "log", "progress", "done", "failed", "alive")
        self.task, self.objects, self.log, self.progress, self.done, self.failed, self.alive = (
            folder / f"{recipe.run_id}.{name}" for name in names
        )

    def at_work(self, rank: int) -> IO[str]:
        """A file that this process holds locked as long as it is open."""
        file, patience = self.alive.with_name(f"{self.alive.name}-{rank}").open("w"), Patience()
        while not _lock(file, fcntl.LOCK_EX):
            patience(f"another process of rank {rank}, which is at work on the same run")
            time.sleep(_POLL_SECONDS)
        return file

    def is_at_work(self) -> bool:
        """Whether one of the processes has begun."""
        return any(map(_locked, self.alive.parent.glob(f"{self.alive.name}-*")))

    def child_is_gone(self) -> bool:
        """Whether the launcher and all of its processes have ended, each of which holds a lock as long as it lives."""
        return not any(map(_locked, self.alive.parent.glob(f"{self.alive.name}*")))

    def last_words(self) -> str:
        """The error that ended a process, or the last of what all of them printed."""
        if self.failed.exists() and (said := self.failed.read_text()):
            return said
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_SAID:])


def _locked(path: Path) -> bool:
    """Whether a process that lives holds a file locked."""
    with path.open("a") as file:
        return not _lock(file, fcntl.LOCK_SH)


def _lock(file: IO[str], kind: int) -> bool:
    """Lock a file, unless another process holds it locked."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_task(
    files: _Files, recipe: Recipe, store: Store, objects: Mapping[str, Any], resume: bool, options: Options
) -> None:
    files.objects.unlink(missing_ok=True)
    if objects:
        for thing in objects.values():
            _check_importable(thing)
        with replacing(files.objects) as temporary:
            try:
                with temporary.open("wb") as file:
                    torch.save(dict(objects), file)
            except OSError:
                raise
            except Exception as error:
                raise ValueError(
                    f"a model or data set cannot be sent to other processes ({error}): define its class in a file that "
                    "can be imported, or use num_processes=1"
                ) from error
    task = {
        "task": 1,
        "recipe": recipe.to_dict(),
        "store": str(store.folder),
        "resume": resume,
        "options": dataclasses.asdict(options),
    }
    with replacing(files.task) as temporary:
        temporary.write_text(json.dumps(task, indent=1))


def _check_importable(thing: Any) -> None:
    """Refuse a model with a class that other processes cannot import."""
    for part in thing.modules() if isinstance(thing, nn.Module) else ():
        if type(part).__module__ == "__main__":
            raise ValueError(
                f"a model cannot be sent to other processes: {type(part).__name__} is defined in a notebook or script; "
                "define its class in a file that can be imported, or use num_processes=1"
            )


def _start(files: _Files, num_processes: int) -> None:
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_machines=1", f"--num_processes={num_processes}"]
    setting = ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
    setting.append(f"--num_cpu_threads_per_process={threads}")
    command = [sys.executable, "-m", *launcher, *setting, "-m", "lkd", "run-recipe", str(files.task)]
    with files.alive.open("w") as alive, files.log.open("w") as log:
        fcntl.flock(alive, fcntl.LOCK_EX)
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(alive.fileno(),),
        )
        alive.write(str(child.pid))


def _follow(files: _Files, recipe: Recipe, images: int) -> None:
    """Show the progress of children until the last of them has ended; an interrupt ends them too."""
    begun, starting, working = False, Patience(_START_SECONDS), Patience()
    with tqdm(total=images, desc=recipe.student, unit=" images", disable=None, leave=False) as bar:
        try:
            while not files.child_is_gone():
                begun = begun or files.is_at_work()
                if not begun:
                    starting(f"processes to begin run {recipe.run_id}, of which {files.log} tells")
                elif bar.disable:
                    working(f"processes that make run {recipe.run_id}, of which {files.log} tells")
                bar.update(tallied(files.progress) - bar.n)
                time.sleep(_POLL_SECONDS)
        except (KeyboardInterrupt, TimeoutError):
            if _locked(files.alive):
                os.killpg(int(files.alive.read_text()), signal.SIGTERM)
            raise
