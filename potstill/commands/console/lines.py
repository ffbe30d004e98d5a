"""Progress as plain lines on stderr, at most one every ten seconds, for logs, machines, and work whose end is not known."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

SECONDS_BETWEEN_LINES = 10.0


class Speeds:
    """When the next line is due, and the speed of each stage since its first report."""

    def __init__(self) -> None:
        self._shown = time.monotonic()
        self._began: dict[str, tuple[float, int]] = {}

    def due(self, stage: str, done: int) -> float | None:
        """How many are done a second, above 0, where a line is due; else None, also while no work was seen."""
        now = time.monotonic()
        start, first = self._began.setdefault(stage, (now, done))
        if now - self._shown < SECONDS_BETWEEN_LINES or now == start or done == first:
            return None
        self._shown = now
        return (done - first) / (now - start)


def count_lines(stage: str, unit: str) -> Callable[[int], None]:
    """A callback that is given how much is done, and says so now and then: `answered: 120000 texts, 9500 texts/s`."""
    speeds = Speeds()

    def show(done: int) -> None:
        if speed := speeds.due(stage, done):
            write_line(f"{stage}: {done} {unit}, {speed:.0f} {unit}/s")

    return show


def write_line(line: str) -> None:
    """The line on stderr, at once."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
