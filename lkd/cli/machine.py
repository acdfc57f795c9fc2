"""Report on this machine: packages, hardware, home, speed, and advice."""

import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from timeit import repeat, timeit
from typing import Any

import joblib
import timm
import torch
import torch.nn.functional as F
from packaging.requirements import Requirement
from torch import nn

from lkd.data import load
from lkd.data.inspection import list_data_sets
from lkd.data.prefetch import SHARED
from lkd.engine.accelerators import LAUNCHERS
from lkd.models.cost import images_per_second
from lkd.runs.provenance import processor_name
from lkd.util.files import CHECKOUT, home, home_folder
from lkd.util.locks import MOVE_HOME, check_locking

MODELS = ("mini_slak", "mini_resnet")
"""Networks for the speed measurement: a teacher and a student of the book."""

_BATCH, _REPEATS = 64, 5
_WRITTEN = 2**25
_SLOW_DISK = 50e6
_LITTLE_SPACE = 5e9
_LITTLE_SHARED = 1e9
_FULL_SHARE = 0.7
_LINES = 6


def examine_machine() -> dict[str, Any]:
    """The complete report, with advice on what is slow or missing.

    Example:
        >>> from lkd.cli.machine import examine_machine
        >>> sorted(examine_machine())
        ['advice', 'data', 'home', 'launcher', 'outdated', 'packages', 'processor', 'python', 'speed', 'torch']
    """
    found = {
        "python": {"version": platform.python_version(), "path": sys.executable, "platform": platform.platform()},
        "packages": packages(),
        "outdated": outdated(),
        "processor": processor(),
        "torch": torch_build(),
        "home": home_status(),
        "data": data_sets(),
        "launcher": launcher(),
        "speed": {name: measured_speed(name) for name in MODELS},
    }
    return found | {"advice": list(advice(found))}


def packages() -> dict[str, dict[str, str | None]]:
    """Versions of lkd's dependencies, None for missing ones; each extra under its own name."""
    found: dict[str, dict[str, str | None]] = {}
    for extra, requirement in _requirements():
        found.setdefault(extra, {})[requirement.name] = _version(requirement.name)
    return found


def outdated() -> list[str]:
    """The installed dependencies with another version than lkd needs, each with both versions."""
    found = {
        requirement.name: (_version(requirement.name), requirement.specifier) for _, requirement in _requirements()
    }
    return [
        f"{name} {number} is installed, lkd needs {needed}"
        for name, (number, needed) in found.items()
        if number is not None and not needed.contains(number, prereleases=True)
    ]


def _requirements() -> Iterator[tuple[str, Requirement]]:
    """The requirements of lkd, each with its extra; none for a checkout that is not installed."""
    try:
        lines = requires("lkd") or ()
    except PackageNotFoundError:
        return
    for line in lines:
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        yield extra[1] if extra else "lkd", Requirement(line)


def processor() -> dict[str, Any]:
    """CPU and memory: name, instruction set used by torch, cores, and the cores that this process may use.

    "cores together" is the matrix-product throughput of all usable cores, relative to one: about their number, but less
    if they are hyper-threads of one core, or if other programs are running.
    """
    return {
        "name": processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "logical cores": os.cpu_count(),
        "usable cores": (cores := joblib.cpu_count()),
        "cores together": _cores_together(cores),
        "hyper-threads": joblib.cpu_count(only_physical_cores=True) < cores,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def torch_build() -> dict[str, Any]:
    """torch's build options, threads and devices."""
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "version": torch.__version__,
        "CUDA": torch.version.cuda,
        "oneDNN": torch.backends.mkldnn.is_available(),
        "OpenMP": torch.backends.openmp.is_available(),
        "threads": torch.get_num_threads(),
        "GPUs": [{"name": gpu.name, "memory": gpu.total_memory} for gpu in gpus],
        "Apple's GPU": torch.backends.mps.is_available(),
    }


def launcher() -> dict[str, str]:
    """Environment variables of a launcher such as torchrun: lkd waits for its processes."""
    return {name: os.environ[name] for name in LAUNCHERS if os.environ.get(name)}


def data_sets() -> list[str]:
    """One line per data set of this machine, with an account of its files; at most six lines."""
    lines = [row.account or f"{row.name}: {row.place}" for row in list_data_sets()]
    if len(lines) <= _LINES:
        return lines
    return [*lines[: _LINES - 1], f"{len(lines) - _LINES + 1} more: see `lkd data list`"]


def home_status() -> dict[str, Any]:
    """lkd's home: path and its origin, free bytes, write speed in bytes/s; and whether the package is a git checkout.

    "locks" is whether files there can be locked, which every run requires. "fault" is the reason why the folder is not
    writable; "written a second" and "locks" are None then. "shared memory" is the free part of /dev/shm, through which
    worker processes pass images; None without it.
    """
    folder, written, fault = home_folder(), None, None
    try:
        written = _written_a_second(home())
    except OSError as error:
        fault = str(error)
    return {
        "path": str(folder),
        "LKD_HOME": os.environ.get("LKD_HOME"),
        "free": shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.is_dir())).free,
        "written a second": written,
        "locks": None if fault else _locks(folder),
        "fault": fault,
        "shared memory": shutil.disk_usage(SHARED).free if SHARED.is_dir() else None,
        "git checkout": str(CHECKOUT) if (CHECKOUT / ".git").exists() else None,
    }


def measured_speed(name: str) -> dict[str, float]:
    """Images per second of one of the book's networks, on 32x32 images: forward pass on one thread, and training.

    Training is a step of AdamW on a batch of 64, on this machine's device, with all of torch's threads.
    """
    data = load("digits")
    model = timm.create_model(name, in_chans=data.channels, num_classes=len(data.classes))
    forward = images_per_second(model, data.channels, data.size, _BATCH, _REPEATS)
    return {"forward": forward, "training": _training_speed(model)}


def advice(found: dict[str, Any]) -> Iterator[str]:
    """Causes of slow or failing runs on this machine, each with the fix, from the result of `examine_machine`."""
    processor, build, place = found["processor"], found["torch"], found["home"]
    if not build["GPUs"] and build["CUDA"]:
        yield f"torch was built for CUDA {build['CUDA']} and sees no GPU: training runs on the CPU; install a driver"
    elif not build["GPUs"]:
        yield "no GPU: the profiles smoke, small and reference are made for CPUs, networks for ImageNet take weeks"
    if "AVX" not in processor["instructions"] and platform.machine() in ("x86_64", "AMD64"):
        yield "no AVX2: convolutions take several times as long as on processors that have it"
    if not build["oneDNN"]:
        yield "torch was built without oneDNN: convolutions on the CPU are slow; install the wheels of pytorch.org"
    if processor["hyper-threads"]:
        yield "hyper-threads: two logical cores share one core, and two runs on them are slower than one"
    elif processor["cores together"] < _FULL_SHARE * processor["usable cores"]:
        yield (
            f"{processor['usable cores']} cores do {processor['cores together']:.1f} times the work of one: they may "
            "be hyper-threads of a shared machine, or other programs are running"
        )
    if processor["usable cores"] < processor["logical cores"]:
        yield f"this process may use {processor['usable cores']} of {processor['logical cores']} cores: workers wait"
    if build["threads"] < processor["usable cores"]:
        yield f"torch uses {build['threads']} of {processor['usable cores']} cores (OMP_NUM_THREADS) for a single run"
    if place["fault"]:
        yield place["fault"]
    elif not place["locks"]:
        yield f"lkd's home is on a file system without flock, no run can start: {MOVE_HOME}"
    elif place["written a second"] < _SLOW_DISK:
        yield f"lkd's home takes {place['written a second'] / 1e6:.0f} MB/s: checkpoints and tapes wait for the disk"
    if place["free"] < _LITTLE_SPACE:
        yield f"lkd's home has {place['free'] / 1e9:.1f} GB free: `lkd store prune` lists unused files"
    if place["shared memory"] is not None and place["shared memory"] < _LITTLE_SHARED:
        yield (
            f"{SHARED} has {place['shared memory'] / 1e6:.0f} MB free: workers that read images need more (in Docker, "
            "--shm-size=2g), or workers=0"
        )
    if found["launcher"]:
        yield (
            f"{', '.join(found['launcher'])} set: lkd waits for the other processes of a launcher; if there is none, "
            f"run unset {' '.join(found['launcher'])}"
        )
    if not found["packages"]:
        yield "lkd is not installed, only on the path: run `pip install -e .` in its checkout"
    yield from (f"{line}: pip install -U 'lkd'" for line in found["outdated"])
    for extra, versions in found["packages"].items():
        if missing := [name for name, number in versions.items() if number is None]:
            suffix = "" if extra == "lkd" else f"[{extra}]"
            yield f"{', '.join(missing)} missing: pip install 'lkd{suffix}'"


def _cores_together(cores: int) -> float:
    threads, matrix = torch.get_num_threads(), torch.ones(512, 512)

    def multiply(_: int) -> None:
        for _ in range(40):
            matrix @ matrix

    torch.set_num_threads(1)
    with ThreadPoolExecutor(cores) as pool:
        multiply(0)
        alone = timeit(lambda: multiply(0), number=1)
        together = timeit(lambda: list(pool.map(multiply, range(cores))), number=1)
    torch.set_num_threads(threads)
    return cores * alone / together


def _training_speed(model: nn.Module) -> float:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = load("digits")
    images, labels = (each.to(device) for each in next(data.batches(data.train, torch.arange(_BATCH), _BATCH)))
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    step()
    return _BATCH / statistics.median(repeat(step, repeat=_REPEATS, number=1))


def _written_a_second(folder: Path) -> float:
    content = os.urandom(_WRITTEN)
    with tempfile.TemporaryFile(dir=folder) as file:

        def write() -> None:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

        return _WRITTEN / timeit(write, number=1)


def _locks(folder: Path) -> bool:
    try:
        check_locking(folder)
    except OSError:
        return False
    return True


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
