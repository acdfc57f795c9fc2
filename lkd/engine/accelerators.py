"""Accelerate's processes and accelerators: made anew for each run, and agreed among processes."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import broadcast_object_list
from torch.distributed import TCPStore

from lkd.runs.store import Store
from lkd.util.waiting import Patience, acquired, held, holder

_LOCK_SECONDS = 5
"""The other processes of a run hear as often that the main one still waits for a lock, and do not take it for dead."""

_JOIN_SECONDS, _LOOK_SECONDS = 300, 0.2
"""Processes of one launcher that have not met after so long will not meet; and from one look for them to the next."""

LAUNCHERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables by which a launcher, such as torchrun, tells its processes of each other."""

_FOREIGN = {
    "ACCELERATE_DYNAMO_BACKEND": ("", "no"),
    **{f"ACCELERATE_USE_{name}": ("", "false") for name in ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")},
}
"""Variables of `accelerate launch` by which others than lkd would decide how a run is trained, and harmless values."""


def processes() -> PartialState:
    """The processes that carry out this run, on CUDA's GPUs or else, joined or not, on CPUs (not on Apple's GPU).

    Raises:
        ValueError: environment variables of a launcher that do not fit together; names them and the remedy.
        TimeoutError: the other processes that they announce have not come.
    """
    if PartialState._shared_state:
        return PartialState()
    several = announced() > 1
    with _met() if several else nullcontext():
        return PartialState(cpu=not torch.cuda.is_available() and (several or torch.backends.mps.is_available()))


def announced() -> int:
    """How many processes a launcher has started for this run, by its environment variables; 1 without any.

    Raises:
        ValueError: they do not fit together; names them and the remedy.
    """
    for name, harmless in _FOREIGN.items():
        if os.environ.get(name, "").lower() not in harmless:
            raise ValueError(f"{name}={os.environ[name]} asks for what lkd does not do: run unset {name}")
    count = _number("WORLD_SIZE", 1)
    if count < 2 and os.environ.get("LOCAL_RANK", "-1") == "-1":  # accelerate takes any other for a launcher
        return 1
    if missing := [name for name in LAUNCHERS if not os.environ.get(name)]:
        raise ValueError(
            f"the environment has {_left_over()}, but no {', '.join(missing)}: start processes with accelerate launch "
            f"or torchrun, which set all of them; or, if these are left over, run {_unset()}"
        )
    rank = _number("RANK", 0)
    if not 0 <= rank < count:
        raise ValueError(f"RANK={rank} is not below WORLD_SIZE={count}: if these are left over, run {_unset()}")
    _number("LOCAL_RANK", 0), _number("MASTER_PORT", 0)
    return count


def refuse_launcher(what: str) -> None:
    """Refuse what starts processes of its own in a process that a launcher has started.

    Raises:
        ValueError: environment variables of a launcher; names them and the remedy.
    """
    if announced() > 1:
        raise ValueError(
            f"{what} starts processes of its own, and the environment has {_left_over()} of a launcher: run "
            f"{_unset()}, or do without the launcher"
        )


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise ValueError(f"{name}={text} must be a whole number: if it is left over from a launcher, run unset {name}")
    return int(text)


def _left_over() -> str:
    return ", ".join(f"{name}={os.environ[name]}" for name in LAUNCHERS if os.environ.get(name))


def _unset() -> str:
    return "unset " + " ".join(name for name in LAUNCHERS if os.environ.get(name))


@contextmanager
def _met() -> Iterator[None]:
    """Within this block, all processes of the launcher are there; PyTorch alone would wait for half an hour unsaid."""
    rank, count, patience = _number("RANK", 0), _number("WORLD_SIZE", 1), Patience(_JOIN_SECONDS)
    others = f"the other process(es) that {_left_over()} announce; if these are left over from a launcher, {_unset()}"
    host, port = os.environ["MASTER_ADDR"], _number("MASTER_PORT", 0)
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    while not (serves or _reachable(host, port)):
        patience(others)
    try:
        store = TCPStore(host, port, is_master=serves, wait_for_workers=False, multi_tenant=serves)
    except RuntimeError as error:
        raise OSError(f"{str(error).splitlines()[0]}: cannot wait for {others}") from error
    store.set(f"lkd/{rank}", "here")
    while not store.check([f"lkd/{number}" for number in range(count)]):
        patience(others)
        time.sleep(_LOOK_SECONDS)
    yield
    del store  # until here it serves the others


def _reachable(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_LOOK_SECONDS).close()
    except OSError:
        time.sleep(_LOOK_SECONDS)
        return False
    return True


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
def exclusive(store: Store, name: str) -> Iterator[None]:
    """A lock that the main process holds for all processes of this run."""
    lock, purpose = store.lock(name), f"makes {name} in {store.folder}"
    if processes().num_processes == 1:
        with held(lock, purpose):
            yield
        return
    main, patience = processes().is_main_process, Patience()
    while not agreed(main and acquired(lock, _LOCK_SECONDS)):
        if main:
            patience(f"{holder(lock)}, which {purpose}")
    try:
        yield
    finally:
        lock.release()


def agreed(value: bool) -> bool:
    """The main process's value, in all processes."""
    return value if processes().num_processes == 1 else bool(broadcast_object_list([value])[0])
