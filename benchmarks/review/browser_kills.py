"""Kill the browser while a person labels by keyboard, again and again, and look for labels that were lost.

    python benchmarks/review/browser_kills.py --kills 200

A real Chromium labels text after text in `potstill review`, as fast as the pages answer. A label counts as given once the page
shows the next text. At a random moment all processes of the browser are killed (SIGKILL). It is started again with the same profile
and a new address, as a person would, while the server stays. Every other time a note is half written when the browser dies. In the
end the journal must hold every label that was given, once, and the store must be sound.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from playwright.sync_api import Browser, Error, Page, Playwright, sync_playwright  # noqa: E402
from support.browser import FLAGS, browser_program  # noqa: E402
from support.review_pages import ReviewProcess, journal_rows, some_texts, write_store  # noqa: E402
from support.small_task import SMALL_TASK  # noqa: E402

from potstill.labeler.store.database import LabelStore  # noqa: E402
from potstill.labeler.store.integrity import check_store  # noqa: E402

KEYS = {"1": "up", "2": "down"}
START_S = 30  # for a browser to answer at its start
N_STARTS = 4  # at most
PATIENCE_S = 60
_FIELDS = "() => [...document.querySelectorAll('#answers input[type=hidden]')].map(field => [field.name, field.value])"
_NEXT = "entry => ![entry, undefined].includes(document.querySelector('input[name=entry]')?.value)"


@dataclass
class Person:
    """Somebody who labels until the browser is gone."""

    given: dict[str, tuple[str, str]] = field(default_factory=dict)  # (text, label) by entry: the next text was shown
    n_notes: int = 0  # half written when the browser died
    n_notes_back: int = 0  # that stood in the field of their text afterwards
    half: str | None = None  # id of the text whose note was half written

    def label(self, page: Page, writes_note: bool) -> None:
        """Label text after text; on the way out, with a note half written. Raises Error once the browser is gone."""
        shown = dict(page.evaluate(_FIELDS))
        if self.half is not None:
            self.n_notes_back += shown["id"] == self.half and page.locator("#note").input_value() != ""
            self.half = None
        n_labels = random.randint(3, 12) if writes_note else sys.maxsize
        for _ in range(n_labels):
            key = random.choice(list(KEYS))
            page.keyboard.press(key)
            page.wait_for_function(_NEXT, arg=shown["entry"])
            self.given[shown["entry"]] = (shown["id"], KEYS[key])
            shown = dict(page.evaluate(_FIELDS))
        page.keyboard.press("n")
        page.keyboard.type("half a thought")
        self.n_notes, self.half = self.n_notes + 1, shown["id"]
        page.wait_for_timeout(1000 * PATIENCE_S)  # until it is killed


@contextmanager
def chromium(playwright: Playwright, profile: Path) -> Iterator[tuple[subprocess.Popen[bytes], Browser]]:
    """A browser whose processes form a group of their own, and a connection to it.

    One that was killed sometimes leaves a profile with which the next one starts and does not answer; then another is started.
    """
    for left in reversed(range(N_STARTS)):
        process = _begin(profile)
        try:
            browser = playwright.chromium.connect_over_cdp(_address(profile), timeout=1000 * START_S)
        except (TimeoutError, Error):
            _kill(process)
            process.wait()
            if not left:
                raise
        else:
            break
    try:
        yield process, browser
    finally:
        _kill(process)
        process.wait()


def _begin(profile: Path) -> subprocess.Popen[bytes]:
    """A browser that will write into its profile where it listens."""
    (profile / "DevToolsActivePort").unlink(missing_ok=True)
    command = [browser_program(), *FLAGS, "--headless=new", "--no-first-run", f"--user-data-dir={profile}"]
    return subprocess.Popen(
        [*command, "--remote-debugging-port=0"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _address(profile: Path) -> str:
    """Where the browser listens; raises TimeoutError if it does not say so in time."""
    until = time.monotonic() + START_S
    while not (told := _port(profile)):
        if time.monotonic() > until:
            raise TimeoutError("the browser did not say where it listens")
        time.sleep(0.02)
    return f"http://127.0.0.1:{told}"


def _port(profile: Path) -> str | None:
    """Where the browser listens, once it has written so."""
    path = profile / "DevToolsActivePort"
    lines = path.read_text().splitlines() if path.exists() else []
    return lines[0] if len(lines) == 2 else None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the browser with all its helpers, at once."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(n_kills: int, folder: Path, seed: int = 0, n_texts: int = 20_000) -> dict[str, int]:
    """Kill the browser that often; returns counts, `lost` among them."""
    rng, person = random.Random(seed), Person()
    task = folder / "task.toml"
    task.write_text(SMALL_TASK)
    store = write_store(folder / "labels.db", task, some_texts(n_texts), n_paths=1)
    with ReviewProcess(store, task) as server, sync_playwright() as playwright:
        for number in range(n_kills):
            if number:  # an address lets one browser in, once
                server.process.send_signal(signal.SIGHUP)
                server.addresses = server.read_addresses()
            with chromium(playwright, folder / "profile") as (process, browser):
                page = browser.contexts[0].new_page()
                page.set_default_timeout(1000 * PATIENCE_S)
                page.goto(server.addresses["ann"])
                killer = threading.Timer(rng.uniform(0.05, 1.5) + 1.5 * (number % 2), _kill, (process,))
                killer.start()
                try:
                    person.label(page, writes_note=number % 2 == 1)
                except Error as error:
                    if not re.search("closed|crash|disconnected|detached", str(error), re.IGNORECASE):
                        raise
                killer.join()
    return _counts(n_kills, person, store)


def _counts(n_kills: int, person: Person, store: Path) -> dict[str, int]:
    """What was given, against what is stored."""
    rows = journal_rows(store)
    stored = {row.entry: (row.text_id, row.labels) for row in rows}
    times = Counter(row.text_id for row in rows)
    with LabelStore.read(store) as opened:
        faults = check_store(opened).faults
    return {
        "kills": n_kills,
        "given": len(person.given),
        "lost": sum(stored.get(entry) != label for entry, label in person.given.items()),
        "stored twice": sum(n - 1 for n in times.values()),
        "stored beside": len(stored.keys() - person.given.keys()),  # on disk, but the browser died before it showed the next text
        "notes begun": person.n_notes,
        "notes back": person.n_notes_back,
        "faults": len(faults),
    }


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="of the moments; runs with other seeds add up")
    options = parser.parse_args()
    random.seed(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="review-kills-"))
    try:
        for what, n in run(options.kills, folder, options.seed, options.texts).items():
            print(f"{what:14} {n}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
