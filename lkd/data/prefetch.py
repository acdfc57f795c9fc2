"""Prefetching with worker processes."""

import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset

from lkd.util.checks import check_whole
from lkd.util.waiting import Patience

T = TypeVar("T")

_END = object()
SHARED = Path("/dev/shm")
_POLL_SECONDS, _GIVE_UP_SECONDS = 5, 600


def prefetch(make: Callable[[Any], T], items: Sequence[Any], workers: int) -> Iterator[T]:
    """Iterate over `make(item)` in the order of the items, computed ahead by worker processes.

    Args:
        make: a function of the item only; worker processes get a copy of it.
        items: the arguments of `make`.
        workers: number of worker processes; with 0, this process computes each result when it is needed.

    Raises:
        ValueError: a negative number of workers.
        OSError: workers cannot start, have died, or have no shared memory left; names the remedy.
        TimeoutError: no result for ten minutes.
        Exception: any error of `make`.

    Example:
        >>> from lkd.data.prefetch import prefetch
        >>> list(prefetch(abs, [-1, 2, -3], workers=0))
        [1, 2, 3]
    """
    check_whole("workers", workers, 0)
    if not workers or not len(items):
        return map(make, items)
    loader = DataLoader(
        _Results(make, items),
        batch_size=None,
        num_workers=min(workers, len(items)),
        collate_fn=_unchanged,
        pin_memory=torch.cuda.is_available(),
        timeout=_POLL_SECONDS,
        worker_init_fn=end_with_parent,
        generator=torch.Generator(),  # keeps global random state unchanged
    )
    return _results(loader)


def _results(loader: "DataLoader[T | _Failed]") -> Iterator[T]:
    try:
        iterator = iter(loader)
    except OSError as error:
        raise OSError(f"{loader.num_workers} worker processes cannot be started ({error}){_remedy()}") from None
    while (result := _next(iterator)) is not _END:
        if isinstance(result, _Failed):
            del iterator  # otherwise the traceback keeps the workers alive
            raise result.error
        yield result


def _next(iterator: Iterator[Any]) -> Any:
    """The next result or failure; reports a long wait, and gives up after ten minutes."""
    patience = Patience(_GIVE_UP_SECONDS)
    while True:
        try:
            return next(iterator, _END)
        except RuntimeError as error:
            if not str(error).startswith("DataLoader timed out"):
                reason = str(error).splitlines()[0]
                return _Failed(OSError(f"a worker process died ({reason}){_remedy()}"))
        try:
            patience("worker processes that prefetch (is their file system stuck?)")
        except TimeoutError as error:
            return _Failed(TimeoutError(f"{error}{_remedy()}"))


def _remedy() -> str:
    """The remedy for workers that cannot return results; on Linux these pass through shared memory."""
    text = ": use workers=0"
    if SHARED.is_dir():
        size, _, free = shutil.disk_usage(SHARED)
        text += f", or make {SHARED} larger ({free:,} of {size:,} bytes are free; in Docker, --shm-size=2g)"
    return text


def end_with_parent(*_: object) -> None:
    """End this process as soon as its parent process ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


class _Failed:
    """An error of a worker, with its type and message."""

    def __init__(self, error: Exception):
        self.error = error


class _Results(Dataset["T | _Failed"]):
    def __init__(self, make: Callable[[Any], T], items: Sequence[Any]):
        self.make, self.items = make, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> "T | _Failed":
        """The result for an item, in shared memory already: errors of a later transfer would be lost."""
        try:
            result = self.make(self.items[index])
        except Exception as error:
            return _Failed(_sendable(error))
        try:
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    tensor.share_memory_()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            return _Failed(OSError(f"worker processes have no shared memory left for results ({reason}){_remedy()}"))
        return result


def _sendable(error: Exception) -> Exception:
    """The error if it can be pickled, else a RuntimeError with its message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error.with_traceback(None)


def _unchanged(result: T) -> T:
    return result
