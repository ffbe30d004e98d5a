"""How many threads decode, chosen again and again while a run goes on, by what the last decodes took.

A pace that is measured once is wrong for the rest of the run when another program begins or ends. Threads that got their cores need
no other number; only where some were kept waiting, or where fewer run than could, another number is tried for a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.contract.system.threads import STARVED, Waiting

WINDOW_S = 2.0  # of decodes that are judged together
TRIAL_S = 1.0  # for which another number of threads is tried
BETWEEN_TRIALS_S = 20.0  # a trial that fails costs a part of a second
CLEARLY_FASTER = 1.1  # another number must be: less may be the texts


@dataclass
class _Window:
    """What was decoded since the window began."""

    n_tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.n_tokens / self.seconds


class Pace:
    """The number of threads for the next decode."""

    def __init__(self, candidates: Sequence[int], n_threads: int, waiting: Waiting | None = None) -> None:
        """Begin with n_threads.

        Args:
            candidates: the numbers that may be tried, at least one.
            waiting: how threads wait for each other, which is changed before their number is; None: that stays.
        """
        self.waiting = waiting
        self.n_threads = n_threads
        self._candidates = sorted({*candidates, n_threads})
        self._settled = n_threads  # the number outside trials
        self._window = _Window()
        self._speed = 0.0  # of the settled number, just before a trial
        self._since_trial_s = 0.0
        self._was_lower = False  # whether the last trial was of a lower number

    def decoded(self, n_tokens: int, seconds: float, cpu_seconds: float) -> int:
        """Take note of a decode; returns the number of threads for the next one.

        Args:
            n_tokens: at least 1.
            seconds: its duration, above 0.
            cpu_seconds: the time that the process spent on cores meanwhile, of all threads together.
        """
        if self.waiting is not None:
            self.waiting.worked(self.n_threads, seconds, cpu_seconds)
        window = self._window
        window.n_tokens, window.seconds = window.n_tokens + n_tokens, window.seconds + seconds
        window.cpu_seconds += cpu_seconds
        self._since_trial_s += seconds
        if self.n_threads != self._settled:
            if window.seconds >= TRIAL_S:
                self._judge()
        elif window.seconds >= WINDOW_S:
            self._look()
        return self.n_threads

    def _judge(self) -> None:
        """End a trial: keep the number that was clearly faster."""
        if self._window.speed > CLEARLY_FASTER * self._speed:
            self._settled = self.n_threads
        self.n_threads, self._window, self._since_trial_s = self._settled, _Window(), 0.0

    def _look(self) -> None:
        """End a window: begin a trial if there is a reason to, and the last one is long ago."""
        window, self._window = self._window, _Window()
        lower, higher = self._neighbours()
        starved = window.cpu_seconds < STARVED * window.seconds * self.n_threads
        if self.waiting is not None and self.waiting.asleep:
            starved = False  # they sleep by themselves
        wanted = [number for number, reason in ((higher, True), (lower, starved)) if number and reason]
        if not wanted or self._since_trial_s < BETWEEN_TRIALS_S:
            return
        chosen = wanted[-1] if len(wanted) == 1 or not self._was_lower else wanted[0]
        self._speed, self._was_lower = window.speed, chosen == lower
        self.n_threads = chosen

    def _neighbours(self) -> tuple[int | None, int | None]:
        """The next lower and the next higher candidate."""
        lower = [number for number in self._candidates if number < self._settled]
        higher = [number for number in self._candidates if number > self._settled]
        return (lower[-1] if lower else None), (higher[0] if higher else None)


def thread_candidates(n_cores: int) -> list[int]:
    """Numbers of threads to choose from, the largest first: all cores, one less, three quarters, half, a quarter, one."""
    found = {n_cores, n_cores - 1, -(-3 * n_cores // 4), -(-n_cores // 2), -(-n_cores // 4), 1}
    return sorted((n for n in found if n >= 1), reverse=True)
