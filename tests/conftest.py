"""Fixtures that several rooms share."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium of this machine; without one the test fails in CI and is skipped elsewhere."""
    path = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if path is None:
        complaint = "no Chromium on this machine: install it, for example with `apt-get install chromium`"
        pytest.fail(complaint) if os.environ.get("CI") else pytest.skip(complaint)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()
