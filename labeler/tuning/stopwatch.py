"""How long the paths of a run take, without what is paid once: loading, measuring, shared prefixes."""

from __future__ import annotations

import time

import msgspec

from potstill.labeler.path_collector import Progress
from potstill.labeler.progress import Live


class Timed(msgspec.Struct, frozen=True):
    """So many paths took so long, over all sittings."""

    seconds: float
    n_paths: int

    def __add__(self, other: Timed) -> Timed:
        """Both together."""
        return Timed(self.seconds + other.seconds, self.n_paths + other.n_paths)


class Stopwatch:
    """A progress callback that keeps time."""

    def __init__(self, progress: Progress | None) -> None:
        """Start. Args: progress, is called too."""
        self._progress = progress
        self._calls = [Timed(time.monotonic(), 0)]  # when, and paths drawn until then: at the start, at first, at last

    def __call__(self, live: Live) -> None:
        """Some paths were stored."""
        self._calls = [*self._calls[:2], Timed(time.monotonic(), live.n_drawn)]
        if self._progress:
            self._progress(live)

    def timed(self) -> Timed:
        """Time since the first paths, which come after all that is paid once; since the start where they were most of the paths."""
        start, first, last = self._calls[0], self._calls[min(1, len(self._calls) - 1)], self._calls[-1]
        since = first if last.n_paths >= 2 * first.n_paths else start
        return Timed(last.seconds - since.seconds, last.n_paths - since.n_paths)
