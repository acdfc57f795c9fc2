"""The `lkd` command as a process: help, exit codes, Ctrl-C, completion."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
from calling import lkd, save

from lkd import Recipe
from lkd.book.runner import NOTEBOOKS
from lkd.cli import app, completion
from lkd.data import SCHEMES, SOURCES
from lkd.objectives import OBJECTIVES
from lkd.profiles import PROFILES
from lkd.runs.store import Store


def process(*words: str, home: Path, **variables: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "lkd", *words],
        env={**os.environ, "LKD_HOME": str(home), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def commands() -> list[tuple[str, ...]]:
    """Every command by the words that call it."""
    from typer.main import get_command

    found: list[tuple[str, ...]] = []
    for name, command in get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        found += [(name, each) for each in inner] if inner else [(name,)]
    return found


@pytest.mark.slow
def test_the_command_answers_as_a_process(tmp_path: Path) -> None:
    save(Store(tmp_path), Recipe(data="digits", student="mini_resnet"))
    answer = process("store", "list", "--json", home=tmp_path)
    told, complaints = answer.communicate(timeout=120)
    assert answer.returncode == 0 and complaints == ""
    assert [row["student"] for row in json.loads(told)] == ["mini_resnet"]


@pytest.mark.slow
def test_a_list_needs_no_torch(tmp_path: Path) -> None:
    script = "import sys; from lkd.cli import app; sys.argv = ['lkd', 'store', 'list']\n"
    script += "try: app()\nexcept SystemExit: print('torch' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "LKD_HOME": str(tmp_path)}
    )
    assert told.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_teaches_by_an_example(words: tuple[str, ...]) -> None:
    answer = lkd(*words, "--help")
    plain = " ".join(answer.stdout.split())
    assert answer.exit_code == 0 and f"lkd {' '.join(words)} " in plain.partition("Example")[2] + " "


@pytest.mark.parametrize("words", [(), ("store",), ("tape",), ("data",)], ids=str)
def test_a_group_without_a_command_shows_its_help(words: tuple[str, ...]) -> None:
    answer = lkd(*words)
    assert answer.exit_code == 0 and "Commands" in answer.stdout and answer.stderr == ""


def test_exit_codes_are_explained() -> None:
    told = lkd("--help").stdout
    assert all(code in told for code in ("Exit codes", "0 done", "130 stopped"))


@pytest.mark.slow
def test_ctrl_c_ends_with_one_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    words = ("train", "mini_slak", "--data", "digits", "--profile", "smoke", "--set", "epochs=500")
    running = process(*words, home=tmp_path)
    locks = tmp_path / "locks"
    while not locks.is_dir() and running.poll() is None:
        time.sleep(0.1)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    told, complaints = running.communicate(timeout=120)
    assert running.returncode == 130 and told == ""
    *first_lines, last = complaints.splitlines()
    assert "the same command resumes" in last and all("Traceback" not in line for line in first_lines)
    assert len(first_lines) <= 6


def test_ctrl_c_in_a_group_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lkd.runs.catalogue.entries", interrupted)
    answer = lkd("store", "list")
    assert answer.exit_code == 130 and len(answer.stderr.splitlines()) == 1


# Completion ---------------------------------------------------------------------------------------------------------


def test_completion_knows_what_the_library_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKD_HOME", str(tmp_path))
    run_id = save(Store(), Recipe(data="digits", student="mini_resnet"))
    assert completion.chapters("") == sorted(NOTEBOOKS)
    assert completion.profiles("") == sorted(PROFILES)
    assert completion.objectives("") == sorted(OBJECTIVES)
    assert set(completion.data("")) == {*SOURCES, *(f"{name}:" for name in SCHEMES if name != "wds")}
    assert completion.runs(run_id[:3]) == [run_id]
    ours = {name for name in timm.list_models() if not timm.model_entrypoint(name).__module__.startswith("test_")}
    assert ours <= set(completion.models(""))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("run logi", "logit_kd"),
        ("distill mini_sl", "mini_slak"),
        ("distill mini_resnet mini_slak --objective nkd+", "nkd+fd"),
        ("train mini_slak --profile smo", "smoke"),
        ("evaluate resnet50 --data fash", "fashion_mnist"),
        ("store comp", "compare"),
    ],
)
def test_a_shell_is_offered_names_without_torch(line: str, offered: str, tmp_path: Path) -> None:
    words = f"lkd {line}"
    variables = {
        "_LKD_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")),
        "PYTHONPROFILEIMPORTTIME": "1", "LKD_HOME": str(tmp_path),
    }  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-m", "lkd"], env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [offered]
    assert " torch\n" not in told.stderr and " timm\n" not in told.stderr and " lkd.cli\n" in told.stderr
