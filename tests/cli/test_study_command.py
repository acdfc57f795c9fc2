"""`lkd study`: interruption, resuming, failures, and messages on wrong arguments."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from training_here import copy_runs
from typer.testing import CliRunner, Result

from lkd import Recipe
from lkd.cli import app
from lkd.profiles import Profile
from lkd.runs.result_cache import cached_result
from lkd.runs.store import Store
from lkd.study import Study
from lkd.study import chapters as evidence

KERNELS = ["kernel_size", "--profile", "smoke", "-p", "sizes=['3', '7']", "-p", "seeds=[0]"]
SLOWEST = Profile.load("smoke").teacher_recipe("mini_slak", seed=0, student_args={"kernel_sizes": [7, 7, 7]})
"""The teacher that takes most of the time; the store has its run from the start."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home on a machine without Slurm."""
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    return tmp_path / "home"


def study(*words: str) -> Result:
    return CliRunner().invoke(app, ["study", *words])


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--executor", "submitit", "--cluster", "local"]], ids=["local", "submitit"])
def test_an_interrupted_study_ends_its_workers_and_the_same_command_goes_on(
    words: list[str], home: Path, smoke_runs: Store
) -> None:
    copy_runs(smoke_runs, home, [SLOWEST])
    command = [sys.executable, "-m", "lkd", "study", *KERNELS, "--workers", "2", *words]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 300
    while running.poll() is None and not list(home.glob("progress/*")):
        assert time.monotonic() < end
        time.sleep(0.05)
    at_work = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=300)
    assert running.returncode == 130
    assert said.splitlines()[-1] == "lkd: stopped; finished work is kept: the same command resumes"
    _, left = psutil.wait_procs(at_work, timeout=60)
    assert at_work and not left
    again = study(*command[4:])
    assert (again.exit_code, again.stdout) == (0, f"5 runs of kernel_size are in {home}\n"), again.stderr
    assert len(list(home.glob("runs/[!.]*"))) == 5
    assert cached_result(home, "claims", "smoke")


@pytest.mark.slow
def test_the_runs_of_several_chapters_are_carried_out_together_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shared, own = (Recipe(data="digits", student="mini_resnet", train_images=128, seed=seed) for seed in (0, 1))
    asks = {"erf": [Study((shared,))], "logit_kd": [Study((shared,)), Study((own, shared))]}
    monkeypatch.setattr(evidence, "studies_of", lambda chapter, *_: asks[chapter])
    told = study("erf", "logit_kd", "--workers", "1")
    assert (told.exit_code, told.stdout) == (0, f"2 runs of erf, logit_kd are in {Store().folder}\n")
    assert all(Store().find(recipe) for recipe in (shared, own)) and len(list(Store().folder.glob("runs/[!.]*"))) == 2


@pytest.mark.slow
def test_two_commands_at_once_share_the_runs_and_both_have_them_all(home: Path, smoke_runs: Store) -> None:
    copy_runs(smoke_runs, home, [SLOWEST])
    command = [sys.executable, "-m", "lkd", "study", *KERNELS, "--workers", "1"]
    both = [
        subprocess.Popen([*command, "--executor", "submitit", "--cluster", "local"], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [running.communicate(timeout=300)[0] for running in both]
    assert said == [f"5 runs of kernel_size are in {home}\n"] * 2
    logs = "".join(path.read_text() for path in home.glob("jobs/*.out"))
    ids = sorted(path.name for path in home.glob("runs/[!.]*"))
    assert ids == sorted([SLOWEST.run_id, *re.findall(r" (\w+) begins$", logs, re.MULTILINE)]) and len(ids) == 5


@pytest.mark.slow
def test_failed_runs_are_told_at_the_end_with_exit_code_1(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = Recipe(data="digits", student="mini_resnet", train_images=128)
    wild = Recipe(data="digits", student="mini_resnet", optimizer="sgd", lr=1e30, clip=None, warmup=0.0)
    monkeypatch.setattr(evidence, "studies_of", lambda *_: [Study((wild, good))])
    told = study("kernel_size", "--workers", "1")
    assert told.exit_code == 1
    lines = [line for line in told.output.splitlines() if "passed, " not in line]
    assert lines[0] == "lkd: 1 of 2 jobs failed" and len(lines) == 2
    assert f"{wild.run_id} (mini_resnet): FloatingPointError: the loss is not finite" in told.output
    assert Store(home).find(good) is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["logits"], "unknown chapter 'logits': did you mean 'logit_kd'"),
        (["your_own"], "chapter 'your_own' has no study"),
        (["erf", "--profile", "smok"], "unknown profile 'smok': did you mean 'smoke'"),
        (["erf", "-p", "teacher=1"], "unknown parameter of the study of chapter 'erf' 'teacher': did you mean 'teache"),
        (["erf", "-p", "seeds=0"], "seeds must be a list of int, got 0"),
        (["kernel_size", "-p", "sizes=['9']"], "unknown entry of sizes '9'"),
        (["erf", "--workers", "0"], "workers must be at least 1, got 0"),
        (["erf", "--option", "worker=2"], "unknown field of lkd.Options 'worker': did you mean 'workers'"),
        (["erf", "--option", "workers=-1"], "workers must be at least 0, got -1"),
        (["erf", "--executor", "slurm"], "unknown executor 'slurm'. There are: local, submitit"),
        (["erf", "--executor", "submitit"], "Slurm is not installed here (sbatch is not found)"),
        (["erf", "--executor", "submitit", "--cluster", "debug"], "unknown cluster 'debug'. There are: local, slurm"),
        (["erf", "--partition", "gpu"], "settings for Slurm (partition) require --executor submitit"),
        (
            ["erf", "--executor", "submitit", "--cluster", "local", "--slurm", "gpu=1"],
            "settings for Slurm: Unknown argument 'gpu' for executor 'slurm'",
        ),
    ],
)
def test_wrong_words_are_answered_in_a_line_and_nothing_is_written(words: list[str], message: str, home: Path) -> None:
    told = study(*words)
    assert told.exit_code == 2 and message in told.output, told.output
    assert len(told.output.splitlines()) == 1
    assert not list(home.glob("*"))
