"""Accelerate's processes, one accelerator per run, and values and locks shared by the processes."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import broadcast_object_list
from torch.distributed import TCPStore

from lkd.runs.store import Store
from lkd.util.waiting import Patience, describe_holder, held, try_acquire

_LOCK_SECONDS = 5
"""Interval at which the main process, while it waits for a lock, signals the others that it is alive."""

_JOIN_SECONDS, _POLL_SECONDS = 300, 0.2
"""Timeout and polling interval for the processes of one launcher to join."""

LAUNCHERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that a launcher such as torchrun sets for its processes."""

_UNSUPPORTED = {
    "ACCELERATE_DYNAMO_BACKEND": ("", "no"),
    **{f"ACCELERATE_USE_{name}": ("", "false") for name in ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")},
}
"""Variables of `accelerate launch` that would change how a run is trained, and their harmless values."""


def processes() -> PartialState:
    """The processes of this run: on CUDA GPUs if there are any, else on CPUs (never on Apple's GPU).

    Raises:
        ValueError: inconsistent environment variables of a launcher; names them and the remedy.
        TimeoutError: the launcher's other processes have not joined.
    """
    if PartialState._shared_state:
        return PartialState()
    several = launched_processes() > 1
    with _all_joined() if several else nullcontext():
        return PartialState(cpu=not torch.cuda.is_available() and (several or torch.backends.mps.is_available()))


def launched_processes() -> int:
    """The number of processes that a launcher has started, from its environment variables; 1 without a launcher.

    Raises:
        ValueError: inconsistent variables; names them and the remedy.
    """
    for name, harmless in _UNSUPPORTED.items():
        if os.environ.get(name, "").lower() not in harmless:
            raise ValueError(f"{name}={os.environ[name]} is not supported by lkd: run unset {name}")
    count = _whole_number("WORLD_SIZE", 1)
    if count < 2 and os.environ.get("LOCAL_RANK", "-1") == "-1":  # other values mean a launcher to Accelerate
        return 1
    if missing := [name for name in LAUNCHERS if not os.environ.get(name)]:
        raise ValueError(
            f"the environment has {_left_over()}, but no {', '.join(missing)}: start processes with accelerate launch "
            f"or torchrun, which set all of them; if these are left over from a launcher, run {_unset()}"
        )
    rank = _whole_number("RANK", 0)
    if not 0 <= rank < count:
        raise ValueError(f"RANK={rank} is not below WORLD_SIZE={count}: if these are left over, run {_unset()}")
    _whole_number("LOCAL_RANK", 0), _whole_number("MASTER_PORT", 0)
    return count


def refuse_launcher(what: str) -> None:
    """Raise a ValueError if a launcher such as torchrun started this process.

    Args:
        what: the work that would start processes, for the error message.
    """
    if launched_processes() > 1:
        raise ValueError(
            f"{what} starts its own processes, but the environment has {_left_over()} of a launcher: run {_unset()}, "
            "or start it without the launcher"
        )


def _whole_number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise ValueError(f"{name}={text} must be a whole number: if it is left over from a launcher, run unset {name}")
    return int(text)


def _left_over() -> str:
    return ", ".join(f"{name}={os.environ[name]}" for name in LAUNCHERS if os.environ.get(name))


def _unset() -> str:
    return "unset " + " ".join(name for name in LAUNCHERS if os.environ.get(name))


@contextmanager
def _all_joined() -> Iterator[None]:
    """Wait, with messages, until all processes of the launcher have joined; PyTorch alone waits silently for 30 min."""
    rank, count, patience = _whole_number("RANK", 0), _whole_number("WORLD_SIZE", 1), Patience(_JOIN_SECONDS)
    others = f"the other process(es) that {_left_over()} announce; if these are left over from a launcher, {_unset()}"
    host, port = os.environ["MASTER_ADDR"], _whole_number("MASTER_PORT", 0)
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
        time.sleep(_POLL_SECONDS)
    yield
    del store  # must serve the other processes until here


def _reachable(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_POLL_SECONDS).close()
    except OSError:
        time.sleep(_POLL_SECONDS)
        return False
    return True


def make_accelerator(precision: str, **arguments: Any) -> Accelerator:
    """A new accelerator with this precision, independent of earlier ones; see `fork_accelerator_state`."""
    processes()
    AcceleratorState._reset_state()
    GradientState._reset_state()
    return Accelerator(mixed_precision=precision, **arguments)


def evaluation_precision(device: torch.device, accelerator: Accelerator | None) -> AbstractContextManager[None]:
    """Autocast for evaluation: the training precision on a GPU; float32 on a CPU, where others save no time."""
    return nullcontext() if device.type == "cpu" or accelerator is None else accelerator.autocast()


@contextmanager
def fork_accelerator_state() -> Iterator[None]:
    """Restore the state of the caller's accelerators when the block ends.

    All accelerators of a process share their precision and their gradient-accumulation state.
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
def main_process_lock(store: Store, name: str) -> Iterator[None]:
    """Hold a lock of the store in the main process, on behalf of all processes of this run."""
    lock, purpose = store.lock(name), f"works on {name} in {store.folder}"
    if processes().num_processes == 1:
        with held(lock, purpose):
            yield
        return
    main, patience = processes().is_main_process, Patience()
    while not broadcast_flag(main and try_acquire(lock, _LOCK_SECONDS)):
        if main:
            patience(f"{describe_holder(lock)}, which {purpose}")
    try:
        yield
    finally:
        lock.release()


def broadcast_flag(value: bool) -> bool:
    """The main process's value, in all processes."""
    return value if processes().num_processes == 1 else bool(broadcast_object_list([value])[0])
