"""Work done ahead of its use by worker processes."""

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
_LOOK_SECONDS, _GIVE_UP_SECONDS = 5, 600


def made_ahead(make: Callable[[Any], T], items: Sequence[Any], workers: int) -> Iterator[T]:
    """`make(item)` of each item, in their order, the same for any number of workers.

    Args:
        make: depends on nothing but the item; worker processes get a copy of it.
        items: what to make something of.
        workers: processes that work ahead; 0 makes each when it is asked for, in this process.

    Raises:
        ValueError: fewer than 0 workers.
        OSError: workers that cannot be started, have died, or have no shared memory left; names the remedy.
        TimeoutError: no worker has made anything for ten minutes.
        Exception: that of `make`.

    Example:
        >>> from lkd.data.prefetch import made_ahead
        >>> list(made_ahead(abs, [-1, 2, -3], workers=0))
        [1, 2, 3]
    """
    check_whole("workers", workers, 0)
    if not workers or not len(items):
        return map(make, items)
    loader = DataLoader(
        _Made(make, items),
        batch_size=None,
        num_workers=min(workers, len(items)),
        collate_fn=_unchanged,
        pin_memory=torch.cuda.is_available(),
        timeout=_LOOK_SECONDS,
        worker_init_fn=end_with_parent,
        generator=torch.Generator(),  # so that starting workers draws nothing from global random state
    )
    return _all_of(loader)


def _all_of(loader: "DataLoader[T | _Failed]") -> Iterator[T]:
    try:
        iterator = iter(loader)
    except OSError as error:
        raise OSError(f"{loader.num_workers} worker processes cannot be started ({error}){_remedy()}") from None
    while (made := _next(iterator)) is not _END:
        if isinstance(made, _Failed):
            del iterator  # a traceback would keep the workers; freed with it, out of turn, they end after long timeouts
            raise made.error
        yield made


def _next(iterator: Iterator[Any]) -> Any:
    """What comes next, or what went wrong; a wait for it is said, and given up after ten minutes."""
    patience = Patience(_GIVE_UP_SECONDS)
    while True:
        try:
            return next(iterator, _END)
        except RuntimeError as error:
            if not str(error).startswith("DataLoader timed out"):
                reason = str(error).splitlines()[0]
                return _Failed(OSError(f"a worker process that reads ahead was lost ({reason}){_remedy()}"))
        try:
            patience("worker processes that read ahead (is their file system stuck?)")
        except TimeoutError as error:
            return _Failed(TimeoutError(f"{error}{_remedy()}"))


def _remedy() -> str:
    """What to do where workers cannot hand over what they have made, through shared memory on Linux."""
    told = ": use workers=0"
    if SHARED.is_dir():
        size, _, free = shutil.disk_usage(SHARED)
        told += f", or make {SHARED} larger (of {size:,} bytes {free:,} are free; in Docker, --shm-size=2g)"
    return told


def end_with_parent(*_: object) -> None:
    """End this process when the one that started it has ended, however it did."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


class _Failed:
    """An error of a worker; handed over as it is, it keeps its type and its message."""

    def __init__(self, error: Exception):
        self.error = error


class _Made(Dataset["T | _Failed"]):
    def __init__(self, make: Callable[[Any], T], items: Sequence[Any]):
        self.make, self.items = make, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> "T | _Failed":
        """What is made of an item, in shared memory already: what fails later, on the way, is lost without a word."""
        try:
            made = self.make(self.items[index])
        except Exception as error:
            return _Failed(_sendable(error))
        try:
            for tensor in tree_leaves(made):
                if isinstance(tensor, torch.Tensor):
                    tensor.share_memory_()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            return _Failed(OSError(f"worker processes have no room for what they read ({reason}){_remedy()}"))
        return made


def _sendable(error: Exception) -> Exception:
    """An error, or one with its message where it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error.with_traceback(None)


def _unchanged(made: T) -> T:
    return made
