"""No server at all: threads that classify texts in a loop. python loop.py BUNDLE TEXTS SECONDS prints JSON: rps, p50_ms."""

import itertools
import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

from bare_session import BareSession


def alone_ms(session: BareSession, texts: list[str], seconds: float) -> float:
    """The median time of a text in one thread, in milliseconds."""
    took_ms, end = [], time.perf_counter() + seconds
    for text in itertools.cycle(texts):
        start = time.perf_counter()
        session.probs(text)
        took_ms.append((time.perf_counter() - start) * 1e3)
        if time.perf_counter() > end:
            return statistics.median(took_ms)
    raise ValueError("there are no texts")


def rate(session: BareSession, texts: list[str], seconds: float) -> float:
    """Texts a second of one thread a core."""
    counts, end = [0] * len(os.sched_getaffinity(0)), time.perf_counter() + seconds

    def work(index: int) -> None:
        """One thread."""
        for text in itertools.cycle(texts):
            if time.perf_counter() > end:
                return
            session.probs(text)
            counts[index] += 1

    start = time.perf_counter()
    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


if __name__ == "__main__":
    folder, file, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    session, texts = BareSession(folder), json.loads(file.read_text())
    alone_ms(session, texts, seconds / 10)  # warm
    print(json.dumps({"p50_ms": alone_ms(session, texts, seconds), "rps": rate(session, texts, seconds)}))
