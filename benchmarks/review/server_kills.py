"""Kill `potstill review` while people label, again and again, and look for labels that were lost.

    python benchmarks/review/server_kills.py --kills 200

Two clients label without pause, each as a browser does: a label counts as given once its reply has come. At a random moment the
server is killed (SIGKILL) and started again. In the end the journal must hold every label that was given, once, and the store
must be sound. By turns the clients send the form that was cut off again: it must not be stored twice.
"""

from __future__ import annotations

import argparse
import http.client
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.review_pages import ReviewProcess, journal_rows, some_texts, write_store  # noqa: E402
from support.small_task import SMALL_TASK  # noqa: E402

from potstill.labeler.store.database import LabelStore  # noqa: E402
from potstill.labeler.store.integrity import check_store  # noqa: E402

CUT = (ConnectionError, http.client.HTTPException, OSError)


@dataclass
class Client:
    """Somebody who labels until the server is gone."""

    person: str
    given: dict[str, tuple[str, str]] = field(default_factory=dict)  # (text, label) by entry: replies that came
    cut: dict[str, str] | None = None  # the form whose reply did not come

    def label(self, server: ReviewProcess, again: bool) -> None:
        """Label text after text. Args: again, whether to send first what was cut off before."""
        try:
            visitor = server.visitor(self.person)
            if again and self.cut is not None:
                self._send(visitor, self.cut)
            while True:
                self._send(visitor, visitor.shown() | {"answer.": random.choice(["up", "down"])})
        except (*CUT, AssertionError):
            return

    def _send(self, visitor, form: dict[str, str]) -> None:
        """Send a form, and note the label once its reply has come."""
        self.cut = form
        status, _, _ = visitor.post("/label", form)
        if status != 303:
            raise RuntimeError(f"a label was answered with {status}")
        self.given[form["entry"]] = (form["id"], form["answer."])
        self.cut = None


def run(n_kills: int, folder: Path, seed: int = 0, n_texts: int = 20_000) -> dict[str, int]:
    """Kill the server that often; returns counts, `lost` among them."""
    rng = random.Random(seed)
    task = folder / "task.toml"
    task.write_text(SMALL_TASK)
    store = write_store(folder / "labels.db", task, some_texts(n_texts), n_paths=1)
    clients = [Client("ann"), Client("bob")]
    for number in range(n_kills):
        with ReviewProcess(store, task, people=("ann", "bob")) as server:
            threads = [threading.Thread(target=client.label, args=(server, number % 2 == i)) for i, client in enumerate(clients)]
            for thread in threads:
                thread.start()
            time.sleep(rng.uniform(0.02, 0.4))
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            for thread in threads:
                thread.join()
    rows = journal_rows(store)
    stored = {row.entry: (row.text_id, row.labels) for row in rows}
    given = {entry: label for client in clients for entry, label in client.given.items()}
    with LabelStore.read(store) as opened:
        faults = check_store(opened).faults
    return {
        "kills": n_kills,
        "given": len(given),
        "lost": sum(stored.get(entry) != label for entry, label in given.items()),
        "repeated": len(rows) - len(stored),
        "stored beside": len(stored.keys() - given.keys()),  # on disk, but the reply was cut off
        "faults": len(faults),
    }


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0, help="of the moments; runs with other seeds add up")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="review-kills-"))
    try:
        for what, n in run(options.kills, folder, options.seed, options.texts).items():
            print(f"{what:14} {n}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
