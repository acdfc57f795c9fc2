"""How long studies take side by side, from what each of their jobs takes."""

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from lkd.engine.jobs import Job
from lkd.planning.timing import Timings, kind_of, time_kinds
from lkd.planning.work import Graph, JobWork, tape_of


@dataclass(frozen=True)
class Duration:
    """What jobs take on this device.

    Args:
        jobs: seconds of each, in a process of one thread beside others.
        seconds: of all of them side by side, with what it takes to start processes: those at work, and before them the
            command that they work for, which takes as long.
        batches: images of the smallest steps that were timed, by the recipe's batch.
        share: of a CPU that each process had while it was timed.
    """

    jobs: Mapping[Job, float]
    seconds: float
    batches: Mapping[int, int]
    share: float


def timed(left: Sequence[Graph], does: Mapping[Job, JobWork], workers: int, seconds: float) -> Duration:
    """The duration of studies, one after the other, from a short measurement on this device.

    Args:
        left: the jobs of each study.
        does: what each job has to do.
        workers: processes side by side.
        seconds: about how long may be measured.
    """
    taped = {job: job.kind == "tape" or bool(tape_of(job, graph)) for graph in left for job in graph}
    kinds = {job: kind_of(job.recipe, taped[job]) for job in taped}
    flops = {kinds[job]: does[job].flops / does[job].images for job in taped if job.kind == "run"}
    timings = time_kinds(flops, min(workers, max(map(len, left))), seconds)
    each = {job: timings.kinds[kinds[job]].of(job, does[job]) for job in taped}
    total = timings.start + sum(_begin(graph, timings) + makespan(graph, each, workers) for graph in left if graph)
    batches: dict[int, int] = {}
    for kind, timing in timings.kinds.items():
        whole = kind.recipe.batch_size
        batches[whole] = min(timing.batch, batches.get(whole, whole))
    return Duration(each, total, batches, timings.share)


def _begin(graph: Graph, timings: Timings) -> float:
    """Seconds before the first job of a study: its networks are looked at in turn, and processes are started."""
    looked_at = {(kind_of(job.recipe, False), job.recipe.teacher) for job in graph}
    checks = {kind.recipe: timing.check for kind, timing in timings.kinds.items()}
    return timings.start + sum(checks[kind.recipe] for kind, _ in looked_at)


def makespan(graph: Graph, seconds: Mapping[Job, float], workers: int) -> float:
    """Seconds until the last job is done, where each process takes the next job that waits for nothing.

    Args:
        graph: jobs, and what each waits for.
        seconds: of each job.
        workers: processes side by side.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.engine.jobs import Job
        >>> from lkd.planning.duration import makespan
        >>> first, second = (Job("run", Recipe(data="digits", student="mini_vit", seed=seed)) for seed in (0, 1))
        >>> makespan({first: set(), second: set()}, {first: 2.0, second: 3.0}, workers=2)
        3.0
        >>> makespan({first: set(), second: {first}}, {first: 2.0, second: 3.0}, workers=2)
        5.0
    """
    order = TopologicalSorter(graph)
    order.prepare()
    waiting: deque[Job] = deque()
    running: list[tuple[float, int, Job]] = []
    now, begun = 0.0, 0
    while order.is_active():
        waiting.extend(sorted(order.get_ready(), key=lambda job: -seconds[job]))
        while waiting and len(running) < workers:
            job, begun = waiting.popleft(), begun + 1
            heapq.heappush(running, (now + seconds[job], begun, job))
        now, _, job = heapq.heappop(running)
        order.done(job)
    return now
