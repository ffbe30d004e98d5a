"""How long the pages of `potstill review` take over a large store, through real HTTP.

    python benchmarks/review/page_times.py --texts 25000 --paths 8

Writes a store with made-up paths (and keeps it among the temporary files), starts the server, labels some texts, and asks for every
kind of page in turn. Prints the start-up time, and the 50th and 95th percentile of each page in milliseconds.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.review_pages import ReviewProcess, write_store  # noqa: E402

from potstill.contract.texts import Text  # noqa: E402

TASK = ROOT / "examples" / "market_stance" / "task.toml"
WORDS = (
    "price market share buy sell hold short call put quarter earnings guidance debt margin cash dividend news rumour the a of"
).split()
N_TIMED = 200  # requests of each kind
N_LABELLED = 400  # before the pages are timed, by each of two people


def texts(n: int) -> list[Text]:
    """Made-up texts of 5 to 60 words."""
    rng = random.Random(0)
    return [Text(f"{i} " + " ".join(rng.choices(WORDS, k=rng.randint(5, 60))), f"text-{i}") for i in range(n)]


def timed(visitor, path: str) -> float:
    """Milliseconds until a page has come whole."""
    began = time.perf_counter()
    visitor.get(path)
    return (time.perf_counter() - began) * 1e3


def labelled(visitor, rng: random.Random) -> float:
    """Milliseconds that a label takes: the form that is sent, and the next text that comes after it."""
    shown = visitor.shown()
    began = time.perf_counter()
    status, _, _ = visitor.post("/label", shown | {"answer.": rng.choice(["bullish", "bearish", "neutral"])})
    visitor.get("/label")
    if status != 303:
        raise RuntimeError(f"a label was answered with {status}")
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=25_000)
    parser.add_argument("--paths", type=int, default=8)
    parser.add_argument("--queue", default="random")
    options = parser.parse_args()
    store = Path(tempfile.gettempdir()) / f"review-{options.texts}x{options.paths}.db"
    if not store.exists():
        write_store(store, TASK, texts(options.texts), n_paths=options.paths)
    rng = random.Random(1)
    began = time.perf_counter()
    with ReviewProcess(store, TASK, "--queue", options.queue, people=("ann", "bob")) as server:
        print(f"start {time.perf_counter() - began:.1f} s")
        ann, bob = server.visitor("ann"), server.visitor("bob")
        for _ in range(N_LABELLED):
            for visitor in (ann, bob):
                visitor.label(rng.choice(["bullish", "bearish", "neutral"]))
        pages = {
            "label a text, see the next": lambda: labelled(ann, rng),
            "next text": lambda: timed(ann, "/label"),
            "a text with the teacher's answer": lambda: timed(ann, f"/label?id=text-{rng.randrange(options.texts)}&reveal=1"),
            "texts, first page": lambda: timed(ann, "/texts"),
            "texts, last page": lambda: timed(ann, "/texts?page=100000"),
            "search of two words": lambda: timed(ann, f"/texts?q={rng.choice(WORDS)}+{rng.choice(WORDS)}"),
            "search that finds nothing": lambda: timed(ann, "/texts?q=zebra"),
            "texts where the teacher differs": lambda: timed(ann, "/texts?show=teacher"),
            "agreement": lambda: timed(ann, "/agreement"),
            "disagreements": lambda: timed(ann, "/disagreements"),
            "steer, with proposed terms": lambda: timed(ann, "/steer"),
            "steer, about a text": lambda: timed(ann, f"/steer?id=text-{rng.randrange(options.texts)}"),
        }
        for what, ask in pages.items():
            times = [ask() for _ in range(N_TIMED)]
            print(f"{what:34} p50 {np.percentile(times, 50):6.1f}  p95 {np.percentile(times, 95):6.1f} ms")


if __name__ == "__main__":
    main()
