"""Work done ahead of its use by worker processes."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from lkd.checks import check_whole

T = TypeVar("T")


def made_ahead(make: Callable[[Any], T], items: Sequence[Any], workers: int) -> Iterator[T]:
    """`make(item)` of each item, in their order, the same for any number of workers.

    Args:
        make: depends on nothing but the item; worker processes get a copy of it.
        items: what to make something of.
        workers: processes that work ahead; 0 makes each when it is asked for, in this process.

    Raises:
        ValueError: fewer than 0 workers.
        Exception: that of `make`.

    Example:
        >>> from lkd.data.ahead import made_ahead
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
        worker_init_fn=end_with_parent,
        generator=torch.Generator(),  # so that starting workers draws nothing from global random state
    )
    return _all_of(loader)


def _all_of(loader: "DataLoader[T]") -> Iterator[T]:
    try:
        yield from loader
    except Exception as error:
        # The error's traceback would keep the workers; freed with it, out of turn, they end after long timeouts only.
        raise error.with_traceback(None) from None


def end_with_parent(*_: object) -> None:
    """End this process when the one that started it has ended, however it did."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


class _Made(Dataset[T]):
    def __init__(self, make: Callable[[Any], T], items: Sequence[Any]):
        self.make, self.items = make, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> T:
        return self.make(self.items[index])


def _unchanged(made: T) -> T:
    return made
