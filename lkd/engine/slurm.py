"""Workers as jobs on a cluster, submitted by submitit."""

import logging
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lkd.engine.jobs import Graph
from lkd.engine.options import Options
from lkd.engine.workers import Ended, work
from lkd.runs.store import Store
from lkd.util.checks import unknown
from lkd.util.files import writing
from lkd.util.private import check_guarded

if TYPE_CHECKING:
    from submitit import AutoExecutor
    from submitit.helpers import DelayedSubmission

CLUSTERS = ("slurm", "local")
"""Where jobs run: on Slurm or, for a trial, in local processes that outlive this one."""

_MINUTES = 24 * 60
_REQUEUED = 1000
"""Maximum number of times that a job is requeued when its time is over."""


@dataclass(frozen=True)
class Submitted:
    """Submit workers with submitit, on Slurm as one job array; a `Start` for `execute_all`.

    A job that is preempted or times out is requeued, and resumes its runs.

    Args:
        folder: folder for the jobs' scripts and logs, on a file system that all machines share.
        cluster: one of `CLUSTERS`.
        settings: submitit's settings for Slurm: `partition`, `gpus_per_node`, `cpus_per_task`, `mem_gb`, `timeout_min`
            (default: a day) and others; `additional_parameters` is a mapping of any other Slurm parameters.

    Raises:
        KeyError: an unknown cluster.
        ImportError: submitit is not installed.
        ValueError: Slurm is not installed on this machine, or submitit does not have a setting.

    Example:
        >>> from pathlib import Path
        >>> from lkd.engine.slurm import Submitted
        >>> Submitted(Path("jobs"), "local").cluster
        'local'
    """

    folder: Path
    cluster: str = "slurm"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cluster not in CLUSTERS:
            raise KeyError(unknown("cluster", self.cluster, CLUSTERS))
        if self.cluster == "slurm" and not shutil.which("sbatch"):
            raise ValueError(
                "Slurm is not installed here (sbatch is not found): use a machine that has it, or the executor 'local'"
            )
        self._executor(Path())

    @contextmanager
    def __call__(self, graph: Graph, store: Store, workers: int | None, options: Options) -> Iterator[Ended]:
        """Submit `workers` jobs (default: 1). An error in the block, such as Ctrl-C, cancels them.

        Raises:
            OSError: the folder cannot be created, or other users can write to it (jobs load pickles from it).
        """
        with writing(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_guarded(self.folder.resolve(), "jobs load pickles from it, give a folder (--folder) such as ~/lkd-jobs")
        executor = self._executor(self.folder)
        with executor.batch():
            jobs = [executor.submit(_Worker(graph, store, options)) for _ in range(min(workers or 1, len(graph)))]
        ids = ", ".join(job.job_id for job in jobs)
        tqdm.write(f"lkd: waiting for jobs {ids} on {self.cluster}, logs in {self.folder}", file=sys.stderr)
        try:
            yield lambda: all(job.done() for job in jobs)
        except BaseException:
            for job in jobs:
                job.cancel(check=False)
            for job in jobs if self.cluster == "local" else ():
                job.wait()
            raise
        for job in jobs:
            if job.state == "PENDING":
                job.cancel(check=False)

    def _executor(self, folder: Path) -> "AutoExecutor":
        try:
            from submitit import AutoExecutor
        except ImportError as error:
            raise ImportError("jobs on a cluster need the package submitit: run pip install 'lkd[slurm]'") from error

        again = {f"{cluster}_max_num_timeout": _REQUEUED for cluster in CLUSTERS}
        executor = AutoExecutor(folder, cluster=self.cluster, **again)
        settings = {f"slurm_{name}": value for name, value in self.settings.items()}
        try:
            executor.update_parameters(name="lkd", timeout_min=_MINUTES, **settings)
        except (AssertionError, NameError, TypeError, ValueError) as error:
            raise ValueError(f"settings for Slurm: {str(error).splitlines()[0]}") from error
        return executor


@dataclass(frozen=True)
class _Worker:
    """The work of a job. When the job is preempted or times out, submitit requeues the result of `checkpoint`."""

    graph: Graph
    store: Store
    options: Options

    def __call__(self) -> None:
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s")
        logging.getLogger("submitit").propagate = False
        work(self.graph, self.store, self.options)

    def checkpoint(self) -> "DelayedSubmission":
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
