"""Debian's Chromium for tests that look at a page, driven by Playwright; and where they are at hand, what bundles in a page need."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from potstill.export.layouts.web.runtime import KNOWN, VARIABLE

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")  # `.ci/browser` looks for the same
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
MISSING = "there is no Chromium for the tests of the pages; on Debian or Ubuntu: apt-get install chromium"
ARCHIVE = Path.home() / ".cache" / "potstill" / "web" / f"onnxruntime-web-{KNOWN}.tgz"  # where `.ci/web_runtime` leaves it
MISSING_RUNTIME = f"onnxruntime-web is not here: .ci/web_runtime fetches it, or name it in {VARIABLE}"
PATIENCE_MS = 60_000
WIDEST_PHONE = 500  # CSS pixels


def browser_program() -> str:
    """The path of the browser. Where there is none the test fails in CI, and is skipped elsewhere."""
    for name in PROGRAMS:
        if path := shutil.which(name):
            return path
    if os.environ.get("CI"):
        pytest.fail(MISSING, pytrace=False)
    pytest.skip(MISSING)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of one file.

    Not for those of the session: until Playwright ends, its event loop counts as running in this thread, and `asyncio.run` refuses.
    """
    program = browser_program()
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program, args=FLAGS) as browser:
        yield browser


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens an empty page in a context of its own, which ends with the test: `new_page(width=320, dark=True)`.

    Width and height are CSS pixels. A narrow page is a phone's, which heeds what the page says of its viewport.
    """
    with ExitStack() as opened:

        def open_page(*, width: int = 1000, height: int = 900, dark: bool = False) -> Page:
            page = browser.new_page(
                viewport={"width": width, "height": height},
                is_mobile=width < WIDEST_PHONE,
                color_scheme="dark" if dark else "light",
            )
            opened.enter_context(page)
            page.set_default_timeout(PATIENCE_MS)
            return page

        yield open_page


def recorded_requests(page: Page) -> list[str]:
    """The addresses that the page asks for from now on; the list grows as it asks."""
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    return addresses


def web_runtime():
    """The place of onnxruntime-web; None if it is not here."""
    if place := os.environ.get(VARIABLE):
        return place
    return str(ARCHIVE) if ARCHIVE.is_file() else None


def needed_web_runtime():
    """The place of onnxruntime-web; without it the test is skipped."""
    return web_runtime() or pytest.skip(MISSING_RUNTIME)


def node(script, *arguments, folder=None):
    """What a script of Node prints; without Node the test is skipped."""
    program = shutil.which("node") or pytest.skip("there is no Node here")
    done = subprocess.run([program, "-e", script, *arguments], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
