"""Accelerate's processes and accelerators: made anew for each run, and agreed among processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from lkd.store import Store

_LOCK_SECONDS = 60
"""Processes that wait for each other longer than some minutes take the others for dead."""


def processes() -> PartialState:
    """The processes that carry out this run, on CUDA's GPUs or else, joined or not, on CPUs (not on Apple's GPU)."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return PartialState(cpu=not torch.cuda.is_available() and (several or torch.backends.mps.is_available()))


def make_accelerator(precision: str, **arguments: Any) -> Accelerator:
    """An accelerator of a precision, whatever others this process has had; see `own_accelerators`."""
    processes()
    AcceleratorState._reset_state()
    GradientState._reset_state()
    return Accelerator(mixed_precision=precision, **arguments)


@contextmanager
def own_accelerators() -> Iterator[None]:
    """Within this block accelerators may be made and changed; those made before are then as they were.

    All accelerators of a process share their precision and their place in an accumulation.
    """
    shared = AcceleratorState._shared_state, GradientState._shared_state
    before = [dict(state) for state in shared]
    try:
        yield
    finally:
        for state, values in zip(shared, before, strict=True):
            state.clear()
            state.update(values)


@contextmanager
def alone(store: Store, name: str) -> Iterator[None]:
    """A lock that the main process holds for all processes of this run."""
    lock = store.lock(name)
    if processes().num_processes == 1:
        with lock:
            yield
        return
    while not agreed(processes().is_main_process and acquired(lock, _LOCK_SECONDS)):
        pass
    try:
        yield
    finally:
        lock.release()


def acquired(lock: FileLock, seconds: float) -> bool:
    """Whether a lock could be had within some time; if so, it is held."""
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    return True


def agreed(value: bool) -> bool:
    """The main process's value, in all processes."""
    return value if processes().num_processes == 1 else bool(broadcast_object_list([value])[0])
