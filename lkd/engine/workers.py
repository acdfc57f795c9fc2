"""Run many recipes with parallel workers on one store, teachers and tapes first."""

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
from lkd.engine.jobs import Graph, Job, check_jobs, remaining_jobs, training_work
from lkd.engine.options import Options
from lkd.engine.run import execute, run_title
from lkd.engine.tape_tools import record_tape
from lkd.recipe import Recipe
from lkd.runs.store import Run, Store
from lkd.util.checks import check_whole
from lkd.util.files import replacing
from lkd.util.processes import terminate
from lkd.util.progress import Tally, log, progress_bar, read_tally
from lkd.util.waiting import Patience, try_acquire

_POLL_SECONDS = 0.5
"""Interval at which workers check for jobs finished by others, write their progress, and are polled for it."""

Ended = Callable[[], bool]
"""Whether all workers have ended."""

Start = Callable[[Graph, Store, int | None, Options], AbstractContextManager[Ended]]
"""Starts this many workers, each running `work`; an error in the block ends them."""


class FailedRunsError(RuntimeError):
    """Failed runs of a study, each with its id and error message; all other runs are finished."""


def execute_all(
    recipes: Sequence[Recipe],
    store: Store,
    workers: int | None = None,
    *,
    options: Options | None = None,
    start: Start | None = None,
) -> list[Run]:
    """Run recipes in parallel, missing teachers first, and return their runs in order.

    Args:
        workers: number of worker processes; by default one per GPU or, without GPUs, one per CPU.
        options: options of each run.
        start: starts the workers; by default `local_workers`, on this machine.

    Raises:
        TypeError, ValueError: fewer than one worker.
        ValueError: this process was started by a launcher such as torchrun.
        Exception: a recipe that cannot be run, before any work.
        FailedRunsError: runs failed; all runs that do not depend on them are in the store.
        RuntimeError: a worker process died; finished runs are in the store.
    """
    if workers is not None:
        check_whole("workers", workers, 1)
    if graph := remaining_jobs(recipes, store):
        refuse_launcher("a study")
        check_jobs(graph, trial_steps=start is None)
        for job in graph:
            _failure(job, store).unlink(missing_ok=True)
        graph = dict(sorted(graph.items(), key=lambda item: -item[0].work))
        with (start or local_workers)(graph, store, workers, options or Options()) as ended:
            _follow(graph, store, ended)
        _report(graph, store)
    return [execute(recipe, store, {}) for recipe in recipes]


@contextmanager
def local_workers(graph: Graph, store: Store, workers: int | None, options: Options) -> Iterator[Ended]:
    """Start workers as child processes with one thread each and, if there are GPUs, one GPU each."""
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
                process.join(_POLL_SECONDS)
    finally:
        terminate(alive)


def _gpus() -> list[str]:
    """The GPUs that this process may use, in the notation of CUDA_VISIBLE_DEVICES."""
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
    """A worker's loop: do one job at a time, in parallel with other workers, until no job is left.

    A worker skips jobs of other processes, and waits for them only if nothing else is ready. If such a process dies,
    its run resumes here from the last checkpoint.
    """
    torch.set_num_threads(1)
    place = {job: number for number, job in enumerate(graph)}
    order, patience = TopologicalSorter(graph), Patience()
    order.prepare()
    ready = list(order.get_ready())
    while ready:
        ready.sort(key=place.__getitem__)
        finished = next((job for job in ready if _try_job(job, store, options)), None)
        if finished is None:
            patience(f"other processes that work on {', '.join(job.name for job in ready)} in {store.folder}")
            time.sleep(_POLL_SECONDS)
            continue
        patience = Patience()
        ready.remove(finished)
        if not _failure(finished, store).exists():
            order.done(finished)
            ready += order.get_ready()


def _try_job(job: Job, store: Store, options: Options) -> bool:
    """Do a job, unless it is done or has failed; False if another process is working on it."""
    lock, failure = store.lock(job.name), _failure(job, store)
    if not try_acquire(lock, 0):
        return False
    try:
        if not failure.exists():
            _run_job(job, store, options)
    except Exception as error:
        log.error("%s failed\n%s", job.name, traceback.format_exc())
        with replacing(failure) as temporary:
            temporary.write_text(f"{type(error).__name__}: {error}")
    finally:
        lock.release()
    return True


def _run_job(job: Job, store: Store, options: Options) -> None:
    if job.kind == "tape":
        record_tape(job.recipe, store, options)
    elif store.find(job.recipe) is None:
        log.info("%s begins", job.name)
        done = Tally(_progress(job, store), _POLL_SECONDS)
        execute(job.recipe, store, {}, options=options, progress=done)
        done.path.unlink(missing_ok=True)
        log.info("%s is done", job.name)


def _failure(job: Job, store: Store) -> Path:
    """The file with the error message of a failed job."""
    return store.folder / "failures" / job.name


def _progress(job: Job, store: Store) -> Path:
    """The file with the number of images that a run in progress has trained on."""
    return store.folder / "progress" / job.name


def _follow(graph: Graph, store: Store, ended: Ended) -> None:
    """Show progress until no run is left or all workers have ended."""
    total = {job: job.work for job in graph if job.kind == "run"}
    before = sum(_work_done(job, store) for job in total)
    with progress_bar(sum(total.values()) - before) as bar:
        while not ended() and (left := _remaining(graph, store)):
            bar.set_description_str(f"{len(total) - len(left)} of {len(total)} runs done", refresh=False)
            worked = sum(total[job] if job not in left else _work_done(job, store) for job in total)
            bar.update(worked - before - bar.n)
            time.sleep(_POLL_SECONDS)


def _work_done(job: Job, store: Store) -> int:
    """The finished work of a run, as reported by its worker."""
    return min(job.work, read_tally(_progress(job, store)) * training_work(job.recipe))


def _remaining(graph: Graph, store: Store) -> list[Job]:
    """Runs that are not in the store yet and can still finish."""
    blocked = _blocked_jobs(graph, store)
    return [job for job in graph if job.kind == "run" and job not in blocked and not store.path(job.recipe).is_dir()]


def _blocked_jobs(graph: Graph, store: Store) -> set[Job]:
    """Jobs that have failed, and jobs that wait for them."""
    blocked: set[Job] = set()
    for job in TopologicalSorter(graph).static_order():
        if _failure(job, store).exists() or graph[job] & blocked:
            blocked.add(job)
    return blocked


def _report(graph: Graph, store: Store) -> None:
    """Raise an error if runs are left or failed."""
    if left := _remaining(graph, store):
        raise RuntimeError(
            f"a worker process died (out of memory, time or disk space?), and {len(left)} runs are left: run again, "
            "perhaps with fewer workers; finished runs are kept"
        )
    blocked = _blocked_jobs(graph, store)
    failed = {job: _failure(job, store).read_text() for job in blocked if _failure(job, store).exists()}
    if failed:
        waiting = sum(job.kind == "run" for job in blocked - failed.keys())
        head = f"{len(failed)} of {len(graph)} jobs failed" + (f", and {waiting} runs need them" if waiting else "")
        raise FailedRunsError(
            "\n".join([head, *(f"{job.name} ({run_title(job.recipe)}): {error}" for job, error in failed.items())])
        )
