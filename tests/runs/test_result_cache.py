"""Kept results are valid until a file behind them changes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from short_runs import saved

from lkd.runs import result_cache
from lkd.runs.result_cache import cache_result, cached_result, input_digests
from lkd.runs.store import Store

ROWS = [{"claim": "logits-help-at-all", "verdict": "not decided", "mean": 0.5}]


@pytest.fixture
def run(store: Store) -> Path:
    """The folder of a run; a kept verdict depends on it and on a missing run."""
    run = saved(store)
    cache_result(store.folder, "claims", "small", input_digests([run, run.with_name("0" * 16)]), ROWS)
    return run


def test_verdicts_are_kept_by_profile(store: Store, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached_result(store.folder, "claims", "small") == ROWS
    assert cached_result(store.folder, "claims", "smoke") is None
    assert cached_result(store.folder, "costs", "small") is None
    cache_result(store.folder, "claims", "mine.yaml", input_digests([run]), [])
    assert cached_result(store.folder, "claims", f"{Path.cwd()}/mine.yaml") == []
    monkeypatch.chdir(run)
    assert cached_result(store.folder, "claims", "mine.yaml") is None


def changed(path: Path) -> None:
    path.write_text(path.read_text().replace("9", "8"))


def measured(run: Path) -> None:
    (run / "measured").mkdir()
    (run / "measured" / "erf-0.npz").write_bytes(b"1")


@pytest.mark.parametrize(
    "change",
    [
        lambda run: changed(run / "metrics.json"),
        lambda run: (run / "history.csv").unlink(),
        measured,
        shutil.rmtree,
        lambda run: shutil.copytree(run, run.with_name("0" * 16)),
    ],
)
def test_verdicts_end_when_a_run_changes(store: Store, run: Path, change: Callable[[Path], object]) -> None:
    change(run)
    assert cached_result(store.folder, "claims", "small") is None


def test_verdicts_rest_on_no_weights_and_on_no_other_run(store: Store, run: Path) -> None:
    (run / "student.safetensors").write_bytes(b"")
    (run.parent / ("f" * 16)).mkdir()
    assert cached_result(store.folder, "claims", "small") == ROWS


def test_verdicts_end_when_the_code_changes(store: Store, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_cache, "source_hash", lambda: "other")
    assert cached_result(store.folder, "claims", "small") is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"digest": 1, "grounds": {}, "result": []}', "altered"])
def test_damaged_verdicts_do_not_count(store: Store, run: Path, content: str) -> None:
    (file,) = (store.folder / "claims").iterdir()
    whole = json.loads(file.read_text())
    whole["result"][0]["verdict"] = "supported"
    file.write_text(json.dumps(whole) if content == "altered" else content)
    assert cached_result(store.folder, "claims", "small") is None


def test_where_nothing_can_be_written_nothing_is_kept(store: Store, run: Path) -> None:
    shutil.rmtree(store.folder / "claims")
    (store.folder / "claims").write_text("")
    cache_result(store.folder, "claims", "small", input_digests([run]), ROWS)
    assert cached_result(store.folder, "claims", "small") is None
