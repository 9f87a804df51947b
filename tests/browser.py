"""A headless Chromium for tests of the interactive page; they skip where there is none, unless it is asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def chromium() -> str | None:
    """Return the path of a Chromium that is installed."""
    names = [os.environ.get("TINYGRAD_SM_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    return next((path for path in map(shutil.which, filter(None, names)) if path), None)


@contextmanager
def launched() -> Iterator[Any]:
    """Give a browser. With TINYGRAD_SM_NEED_BROWSER in the environment a missing one is a failure, not a skip."""
    need, path = os.environ.get("TINYGRAD_SM_NEED_BROWSER"), chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if path is None or sync_playwright is None:
        missing = "no Chromium on the PATH" if path is None else "pip install playwright"
        (pytest.fail if need else pytest.skip)(f"the page is tested in a browser: {missing}")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
