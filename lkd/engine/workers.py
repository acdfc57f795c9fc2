"""Many recipes at once: any number of workers on one store, teachers before students, a tape before its readers."""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from graphlib import TopologicalSorter
from pathlib import Path

import torch

from lkd.data.prefetch import end_with_parent
from lkd.engine.accelerators import refuse_launcher
from lkd.engine.jobs import Graph, Job, check, plan, training_work
from lkd.engine.options import Options
from lkd.engine.run import execute, title
from lkd.engine.tape_tools import record_tape
from lkd.recipe import Recipe
from lkd.runs.store import Run, Store
from lkd.util.checks import check_whole
from lkd.util.files import replacing
from lkd.util.processes import terminate
from lkd.util.progress import Tally, log, progress_bar, tallied
from lkd.util.waiting import Patience, acquired

_LOOK_SECONDS = 0.5
"""How often a worker looks whether what others are at is done, tells how far it is, and is asked for it."""

Ended = Callable[[], bool]
"""Whether all workers have ended."""

Start = Callable[[Graph, Store, int | None, Options], AbstractContextManager[Ended]]
"""Starts so many workers, each of which does `work`; an error within the block ends them."""


class FailedRunsError(RuntimeError):
    """Runs of a study that failed, each with its id and what it said; the others are done."""


def execute_all(
    recipes: Sequence[Recipe],
    store: Store,
    workers: int | None = None,
    *,
    options: Options | None = None,
    start: Start | None = None,
) -> list[Run]:
    """The runs of the recipes; those that the store does not have, and those of their teachers, are carried out first.

    Args:
        recipes: what to run.
        store: where runs are looked for and kept.
        workers: processes; by default one for each GPU or, without any, for each CPU.
        options: how to go about each run.
        start: what starts the workers; by default `local_workers`, on this machine.

    Raises:
        TypeError, ValueError: fewer than one worker.
        ValueError: a process that a launcher such as torchrun has started.
        Exception: a recipe that cannot be run, before any work.
        FailedRunsError: runs have failed; all that do not need them are in the store.
        RuntimeError: the workers have died; what was finished stays in the store.
    """
    if workers is not None:
        check_whole("workers", workers, 1)
    if graph := plan(recipes, store):
        refuse_launcher("a study")
        check(graph, rehearsed=start is None)
        for job in graph:
            _failure(job, store).unlink(missing_ok=True)
        graph = dict(sorted(graph.items(), key=lambda item: -item[0].work))
        with (start or local_workers)(graph, store, workers, options or Options()) as ended:
            _follow(graph, store, ended)
        _report(graph, store)
    return [execute(recipe, store, {}) for recipe in recipes]


@contextmanager
def local_workers(graph: Graph, store: Store, workers: int | None, options: Options) -> Iterator[Ended]:
    """Workers as processes of this one, of one thread and, where there are GPUs, one GPU each; they end with it."""
    gpus, context = _gpus(), multiprocessing.get_context("spawn")
    count = min(workers or len(gpus) or os.cpu_count() or 1, len(graph))
    places = [gpus[place % len(gpus)] if gpus else None for place in range(count)]
    processes = [context.Process(target=_work_here, args=(graph, store, options, gpu)) for gpu in places]

    def alive() -> list[int]:
        return [process.pid for process in processes if process.pid and process.is_alive()]

    try:
        for process in processes:
            process.start()
        yield lambda: not alive()
        patience = Patience()
        for process in processes:
            while process.is_alive():
                patience(f"worker process {process.pid} to end")
                process.join(_LOOK_SECONDS)
    finally:
        terminate(alive)


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def _work_here(graph: Graph, store: Store, options: Options, gpu: str | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    work(graph, store, options)


def work(graph: Graph, store: Store, options: Options) -> None:
    """What a worker does: one job at a time, beside any number of others, until none is left that can be done.

    What another process is at is left to it, and waited for only if nothing else is ready: should that process die, the
    run goes on here from its last checkpoint.
    """
    torch.set_num_threads(1)
    place = {job: number for number, job in enumerate(graph)}
    order, patience = TopologicalSorter(graph), Patience()
    order.prepare()
    ready = list(order.get_ready())
    while ready:
        ready.sort(key=place.__getitem__)
        settled = next((job for job in ready if _settled(job, store, options)), None)
        if settled is None:
            patience(f"other processes, which make {', '.join(job.name for job in ready)} in {store.folder}")
            time.sleep(_LOOK_SECONDS)
            continue
        patience = Patience()
        ready.remove(settled)
        if not _failure(settled, store).exists():
            order.done(settled)
            ready += order.get_ready()


def _settled(job: Job, store: Store, options: Options) -> bool:
    """Do a job, or find that it is done or has failed; False while another process is at it."""
    lock, failure = store.lock(job.name), _failure(job, store)
    if not acquired(lock, 0):
        return False
    try:
        if not failure.exists():
            _do(job, store, options)
    except Exception as error:
        log.error("%s failed\n%s", job.name, traceback.format_exc())
        with replacing(failure) as temporary:
            temporary.write_text(f"{type(error).__name__}: {error}")
    finally:
        lock.release()
    return True


def _do(job: Job, store: Store, options: Options) -> None:
    if job.kind == "tape":
        record_tape(job.recipe, store, options)
    elif store.find(job.recipe) is None:
        log.info("%s begins", job.name)
        done = Tally(_progress(job, store), _LOOK_SECONDS)
        execute(job.recipe, store, {}, options=options, progress=done)
        done.path.unlink(missing_ok=True)
        log.info("%s is done", job.name)


def _failure(job: Job, store: Store) -> Path:
    """What is there after a job has failed: what it said."""
    return store.folder / "failures" / job.name


def _progress(job: Job, store: Store) -> Path:
    """How many images have gone through the training of a run that somebody is at."""
    return store.folder / "progress" / job.name


def _follow(graph: Graph, store: Store, ended: Ended) -> None:
    """Show how far the runs are, until nothing is left to do or nobody to do it."""
    total = {job: job.work for job in graph if job.kind == "run"}
    before, patience = sum(_worked(job, store) for job in total), Patience()
    with progress_bar(sum(total.values()) - before) as bar:
        while not ended() and (left := _left(graph, store)):
            if bar.disable:
                patience(f"workers that train {len(left)} of {len(total)} runs in {store.folder}")
            bar.set_description_str(f"{len(total) - len(left)} of {len(total)} runs done", refresh=False)
            worked = sum(total[job] if job not in left else _worked(job, store) for job in total)
            bar.update(worked - before - bar.n)
            time.sleep(_LOOK_SECONDS)


def _worked(job: Job, store: Store) -> int:
    """The work of a run that has been done, as far as its worker has told."""
    return min(job.work, tallied(_progress(job, store)) * training_work(job.recipe))


def _left(graph: Graph, store: Store) -> list[Job]:
    """The runs that are not in the store yet, and may still come there."""
    lost = _lost(graph, store)
    return [job for job in graph if job.kind == "run" and job not in lost and not store.path(job.recipe).is_dir()]


def _lost(graph: Graph, store: Store) -> set[Job]:
    """The jobs that have failed, and those that wait for them."""
    lost: set[Job] = set()
    for job in TopologicalSorter(graph).static_order():
        if _failure(job, store).exists() or graph[job] & lost:
            lost.add(job)
    return lost


def _report(graph: Graph, store: Store) -> None:
    """Raise what went wrong, if anything did."""
    if left := _left(graph, store):
        raise RuntimeError(
            f"a worker process died, perhaps for lack of memory, time or disk space, and {len(left)} runs are left: "
            "run again, perhaps with fewer workers; finished runs are kept"
        )
    lost = _lost(graph, store)
    failed = {job: _failure(job, store).read_text() for job in lost if _failure(job, store).exists()}
    if failed:
        waiting = sum(job.kind == "run" for job in lost - failed.keys())
        head = f"{len(failed)} of {len(graph)} jobs failed" + (f", and {waiting} runs need them" if waiting else "")
        raise FailedRunsError(
            "\n".join([head, *(f"{job.name} ({title(job.recipe)}): {said}" for job, said in failed.items())])
        )
