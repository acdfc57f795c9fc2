"""Workers as submitit jobs: killed, requeued and stopped; and their Slurm settings."""

import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from threading import Thread

import psutil
import pytest
import torch
from short import ALONE, TAUGHT, TEACHER, same, wait_until

import lkd
from lkd.engine.jobs import remaining_jobs
from lkd.engine.options import Options
from lkd.engine.slurm import Submitted
from lkd.engine.workers import execute_all
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

LONG = replace(ALONE, epochs=40)
STUDY = [TEACHER, LONG, replace(LONG, seed=1), TAUGHT, replace(TAUGHT, objective="nkd", objective_args={}), ALONE]


def workers(folder: Path) -> list[psutil.Process]:
    """The processes that work as jobs with this folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["cmdline"] and {"submitit.core._submit", str(folder)} <= set(process.info["cmdline"])
    ]


def told(folder: Path, what: str) -> list[str]:
    """The runs that the jobs' logs name."""
    logs = "".join(path.read_text() for path in folder.glob("*.out"))
    return re.findall(rf" (\w+) {what}$", logs, re.MULTILINE)


# Kills --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_jobs_one_killed_and_one_preempted_end_in_the_numbers_of_one_process(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    alone, store, folder = Store(tmp_path / "alone"), Store(tmp_path / "store"), tmp_path / "jobs"
    expected = [lkd.run(recipe, store=alone) for recipe in STUDY]

    def disturb() -> None:
        wait_until(lambda: len(list(store.folder.glob("checkpoints/*/*-*.pt"))) >= 2)
        first, second = workers(folder)
        first.kill()
        second.send_signal(signal.SIGUSR2)

    disturbing = Thread(target=disturb, daemon=True)
    disturbing.start()
    start, options = Submitted(folder, "local"), Options(checkpoint_seconds=0)
    runs = execute_all(STUDY, store, workers=2, options=options, start=start)
    disturbing.join()
    assert all(same(*pair) for pair in zip(runs, expected, strict=True))
    assert sorted(told(folder, "is done")) == sorted(recipe.run_id for recipe in STUDY)
    assert len(told(folder, "begins")) == len(STUDY) + 2, "no run was interrupted by the kill, or by the preemption"
    assert not list(store.folder.glob("checkpoints/*/*"))


# Slurm --------------------------------------------------------------------------------------------------------------

SBATCH = """#!/bin/sh
cp "$1" {0}/script
echo "Submitted batch job 77"
"""
SACCT = """#!/bin/sh
printf 'JobID|State\\n77_0|RUNNING\\n77_1|PENDING\\n77_2|PENDING\\n'
"""
SCANCEL = """#!/bin/sh
echo $1 >> {0}/cancelled
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where commands called as Slurm's leave what they were told."""
    for name, script in (("sbatch", SBATCH), ("srun", "#!/bin/sh\n"), ("sacct", SACCT), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(script.format(tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_slurm_gets_workers_as_an_array_with_the_settings_given(slurm: Path, store: Store) -> None:
    settings = {"partition": "gpu", "gpus_per_node": 1, "mem_gb": 64, "additional_parameters": {"reservation": "us"}}
    start = Submitted(slurm / "jobs", settings=settings)
    with start(remaining_jobs(STUDY, store), store, 3, Options()) as ended:
        assert not ended()
    lines = (slurm / "script").read_text().splitlines()
    wanted = {"partition=gpu", "gpus-per-node=1", "mem=64GB", "reservation=us", "array=0-2%3", "time=1440"}
    assert {f"#SBATCH --{setting}" for setting in wanted} <= set(lines)
    assert (slurm / "cancelled").read_text().split() == ["77_1", "77_2"], "what still waits is not needed any more"


def test_an_interrupt_cancels_all_jobs_of_slurm(slurm: Path, store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), Submitted(slurm / "jobs")(remaining_jobs(STUDY, store), store, 3, Options()):
        raise KeyboardInterrupt
    assert (slurm / "cancelled").read_text().split() == ["77_0", "77_1", "77_2"]


def test_more_jobs_than_there_is_work_for_are_not_asked_for(slurm: Path, store: Store) -> None:
    with Submitted(slurm / "jobs")(remaining_jobs([TEACHER, ALONE], store), store, 8, Options()):
        assert "#SBATCH --array=0-1%2" in (slurm / "script").read_text().splitlines()


def test_a_folder_that_others_can_write_to_is_refused_before_anything_is_submitted(slurm: Path, store: Store) -> None:
    (slurm / "jobs").mkdir()
    (slurm / "jobs").chmod(0o777)
    with pytest.raises(PermissionError, match=r"/jobs can be written by others \(mode 777\): jobs load pickles from"):
        with Submitted(slurm / "jobs")(remaining_jobs([ALONE], store), store, 1, Options()):
            pass
    assert not (slurm / "script").exists()


def test_settings_that_submitit_does_not_know_are_refused(slurm: Path) -> None:
    with pytest.raises(ValueError, match=r"settings for Slurm: Unknown argument 'partitoin'.* Valid arguments: .*"):
        Submitted(slurm / "jobs", settings={"partitoin": "gpu"})
    assert not (slurm / "jobs").exists()
