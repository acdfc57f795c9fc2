"""Several processes for one run, started by `accelerate launch`; they outlive this process."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from lkd.data import Images
from lkd.data.lazy import LazySplit
from lkd.engine.callbacks import Callback
from lkd.engine.options import Options
from lkd.objectives.own import importable
from lkd.recipe import Recipe
from lkd.runs.launches import DIGEST, Launch, open_locked
from lkd.runs.store import Store
from lkd.util.files import sha256, writing
from lkd.util.locks import is_held
from lkd.util.private import SET_TMPDIR
from lkd.util.processes import terminate
from lkd.util.progress import read_tally
from lkd.util.waiting import Patience, held

_WORKER = "lkd.engine.launch_rank"
_POLL_SECONDS = 0.3
_START_SECONDS = 300


def launch(
    recipe: Recipe,
    store: Store,
    objects: Mapping[str, Any],
    resume: bool,
    num_processes: int,
    options: Options,
    images: int,
) -> None:
    """Run a recipe in several processes and wait for them. If they are running already, only wait.

    The processes read models and data sets from a pickle in a private folder, and check it against a digest in their
    environment. They end when their launcher is killed.

    Args:
        recipe, store, objects, resume, options: as for `lkd.engine.run.execute`.
        num_processes: number of processes.
        images: total number of training images, for the progress bar.

    Raises:
        OSError: the private folder cannot be created; names the remedy.
        RuntimeError: the processes failed; ends with their last messages.
        TimeoutError: the processes have not started after five minutes.
        ValueError: a model or data set that cannot be pickled.
    """
    files = Launch.of(store.folder, recipe.run_id)
    with held(store.lock(f"launch-{recipe.run_id}"), f"starts processes for run {recipe.run_id}", _START_SECONDS):
        if not is_held(files.launcher):
            terminate(files.processes)
            files.clear()
            digest = _write_task(files, recipe, store, objects, resume, options)
            _start(files, num_processes, digest)
    _follow(files, recipe, images)
    if not files.done.exists():
        raise RuntimeError(f"training in {num_processes} processes failed (log: {files.log}):\n{files.failure_text()}")


def _write_task(
    files: Launch, recipe: Recipe, store: Store, objects: Mapping[str, Any], resume: bool, options: Options
) -> str:
    """Write the task's file and return its SHA-256."""
    objectives = {name: importable(name) for name in _own_objectives(recipe)}
    for thing in (*objects.values(), *options.callbacks):
        _check_importable(thing)
    with writing(files.task, f"make room, or {SET_TMPDIR}"):
        try:
            with files.task.open("wb") as file:
                torch.save((recipe, store, dict(objects), objectives, resume, options), file)
        except OSError:
            raise
        except Exception as error:
            raise ValueError(
                f"a model, data set or callback cannot be sent to other processes ({error}): define its class in an "
                "importable file, or use num_processes=1"
            ) from error
    return sha256(files.task)


def _own_objectives(recipe: Recipe) -> list[str]:
    """Names of the custom objectives of a recipe and of its teacher."""
    own = [recipe.objective] if "objective" in recipe.own_code else []
    return [*own, *_own_objectives(recipe.teacher)] if isinstance(recipe.teacher, Recipe) else own


def _check_importable(thing: Any) -> None:
    """Refuse a model, data set or callback of a class defined in `__main__`, which other processes cannot import."""
    kind, parts = _parts(thing)
    for part in parts:
        if type(part).__module__ == "__main__":
            raise ValueError(
                f"a {kind} cannot be sent to other processes: {type(part).__name__} is defined in a notebook or "
                "script; define its class in an importable file, or use num_processes=1"
            )


def _parts(thing: Any) -> tuple[str, Iterable[Any]]:
    """The kind of an object, and the objects in it that have a class of their own."""
    if isinstance(thing, Callback):
        return "callback", [thing]
    return ("model", thing.modules()) if isinstance(thing, nn.Module) else ("data set", _data_sets(thing))


def _data_sets(thing: Any) -> list[Any]:
    """The custom data sets that images are read from; none for images in memory."""
    splits = thing.splits.values() if isinstance(thing, Images) else ()
    return [split.samples.dataset for split in splits if isinstance(split, LazySplit)]


def _start(files: Launch, num_processes: int, digest: str) -> None:
    with open_locked(files.launcher) as alive, files.log.open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", *_launcher(files, num_processes), "-m", _WORKER, str(files.folder)],
            env={**os.environ, DIGEST: digest},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(alive.fileno(),),
        )
        alive.write(str(child.pid))


def _launcher(files: Launch, num_processes: int) -> list[str]:
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    processes = ["--multi_gpu", "--num_machines=1", f"--num_processes={num_processes}", "--main_process_port=0"]
    arguments = ["--mixed_precision=no", "--dynamo_backend=no", f"--num_cpu_threads_per_process={threads}"]
    return ["accelerate.commands.launch", *processes, *arguments, f"--log_dir={files.elastic}"]


def _follow(files: Launch, recipe: Recipe, images: int) -> None:
    """Show progress until the launcher has ended; an interrupt ends all processes."""
    begun, starting, working = False, Patience(_START_SECONDS), Patience()
    with tqdm(total=images, desc=recipe.student, unit=" images", disable=None, leave=False) as bar:
        try:
            while is_held(files.launcher):
                more = read_tally(files.progress) - bar.n
                begun = begun or any(map(is_held, files.ranks()))
                if not begun or (more and not bar.disable):
                    working = Patience()
                if begun:
                    working(f"processes that train run {recipe.run_id} (log: {files.log})")
                else:
                    starting(f"processes to start run {recipe.run_id} (log: {files.log})")
                bar.update(more)
                time.sleep(_POLL_SECONDS)
        except (KeyboardInterrupt, TimeoutError):
            terminate(files.processes)
            raise
    terminate(files.processes)
