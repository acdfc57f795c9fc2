"""One run on two hosts that see each other over a network alone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from short import ALONE

import lkd
from lkd.runs.store import Run, Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread", "temporary")]

RECIPE = replace(ALONE, student="mini_vit", optimizer="sgd", lr=0.05)
"""Without batch norm, which sees each process's share alone, and without an optimizer that magnifies rounding."""

ADDRESSES = ("10.213.0.1", "10.213.0.2")
LAUNCH = "accelerate.commands.launch --multi_gpu --num_machines 2 --num_processes 2 --mixed_precision no"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces, with a cable between interfaces that are called as they are."""
    names = [f"lkd{os.getpid()}{end}" for end in "ab"]
    first, second = names
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", first, "netns", first, "type", "veth", "peer", "name", second, "netns", second)
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/30", "dev", name)
            ip("-n", name, "link", "set", name, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces on this machine: {getattr(error, 'stderr', None) or error}")
    finally:
        for name in names if shutil.which("ip") else ():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def assert_equal_to_rounding(run: Run | None, alone: Run) -> None:
    assert run is not None
    assert run.history.train_total.tolist() == pytest.approx(alone.history.train_total.tolist(), rel=1e-4)
    assert run.metrics["test_loss"] == pytest.approx(alone.metrics["test_loss"], rel=1e-3)


def test_two_hosts_with_one_store_train_as_one_does(hosts: list[str], tmp_path: Path) -> None:
    recipe, home = tmp_path / "recipe.json", tmp_path / "home"
    recipe.write_text(json.dumps(RECIPE.to_dict()))
    started = []
    for rank, host in enumerate(hosts):
        place = ["--machine_rank", str(rank), "--main_process_ip", ADDRESSES[0], "--main_process_port", "29500"]
        command = ["ip", "netns", "exec", host, sys.executable, "-m", *LAUNCH.split(), "--dynamo_backend", "no", *place]
        environment = {**os.environ, "LKD_HOME": str(home), "GLOO_SOCKET_IFNAME": host, "CUDA_VISIBLE_DEVICES": ""}
        words = ["-m", "lkd", "run-recipe", str(recipe)]
        started.append(subprocess.Popen([*command, *words], env=environment, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=240)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    run = Store(home).find(RECIPE)
    assert run is not None and run.provenance["processes"] == 2
    assert_equal_to_rounding(run, lkd.run(RECIPE, store=Store(tmp_path / "alone")))
