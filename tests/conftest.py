"""Fixtures that several rooms share."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, sync_playwright

if TYPE_CHECKING:
    from lkd.runs.store import Store

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in a browser are slow ones."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium of this machine; without one the test fails in CI and is skipped elsewhere."""
    path = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if path is None:
        complaint = "no Chromium on this machine: install it, for example with `apt-get install chromium`"
        pytest.fail(complaint) if os.environ.get("CI") else pytest.skip(complaint)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser, without pages after the test: an open page goes on drawing."""
    yield chromium
    for context in chromium.contexts:
        context.close()


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of this session's runs, so that no test finds or leaves anything in the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("LKD_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C reaches what tests start, also where a shell began the session in the background and so ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, of this test alone, also for the processes that it starts."""
    folder = tmp_path_factory.mktemp("t")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> "Store":
    """An empty store."""
    from lkd.runs.store import Store

    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def smoke_runs(tmp_path_factory: pytest.TempPathFactory) -> "Store":
    """A store with all runs of the profile `smoke`, to copy from with `copy_runs`.

    The workers of pytest-xdist have one such store and train its runs together.
    """
    from training_here import training_here

    from lkd.engine.workers import execute_all
    from lkd.runs.store import Store
    from lkd.study.chapters import STUDIES

    folder = tmp_path_factory.getbasetemp()
    store = Store((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "smoke")
    execute_all([recipe for study in STUDIES.values() for recipe in study("smoke").recipes], store, start=training_here)
    return store


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: fast for tiny models, and the same sums as in a worker process."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
