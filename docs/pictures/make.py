"""Make the pictures of the report, the review page and the playground, from the folder of a finished demo.

    potstill demo --out tour
    python docs/pictures/make.py tour

The pages are the real ones, looked at in Chromium. The folder of the demo stays as it is: people's labels go into a copy.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 1000, 640  # CSS pixels
MOST_BYTES = 150_000  # of one picture
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ASKED = "Took a second job just to buy more of this before earnings, and I would do it again."


@contextmanager
def running(*args: str) -> Iterator[str]:
    """A server of ours on a free port; gives the address that it prints."""
    command = [sys.executable, "-m", "potstill", *args, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr or ():
                if found := re.search(r"http://\S+", line):
                    yield found[0].rstrip(".,;")
                    return
            raise SystemExit(f"{' '.join(command)} ended before it listened")
        finally:
            process.terminate()


def taken(browser: Browser, name: str, address: str, prepare: Callable[[Page], None]) -> None:
    """One picture of a page. Args: prepare, what is done on the page before."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    page.goto(address)
    prepare(page)
    file = HERE / f"{name}.png"
    page.screenshot(path=file, animations="disabled")
    page.close()
    if file.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{file} has {file.stat().st_size} bytes; allowed: {MOST_BYTES}")


def ask(page: Page) -> None:
    """Ask the playground about a text, and wait for the answer."""
    page.locator("#text").fill(ASKED)
    page.get_by_role("button", name="Classify").click()
    page.locator("#answer").wait_for()


def main(demo: Path) -> None:
    """All three pictures."""
    program = next(filter(None, map(shutil.which, PROGRAMS)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        copy = Path(shutil.copytree(demo, Path(folder) / "tour"))
        report = copy / "report.html"
        made = [sys.executable, "-m", "potstill", "report", str(copy / "student"), str(copy / "gold.jsonl"), "--run", str(copy)]
        subprocess.run([*made, "--out", str(report)], check=True)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        taken(browser, "report", report.as_uri(), lambda page: None)
        with running("review", str(copy / "labels.db"), "--task", str(copy / "task.toml")) as address:
            taken(browser, "review", address, lambda page: None)
        with running("serve", str(copy / "bundle")) as address:
            taken(browser, "playground", address, ask)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
