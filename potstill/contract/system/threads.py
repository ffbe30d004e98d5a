"""How the threads of llama.cpp and torch wait for each other: spinning while they have the cores, asleep beside other programs.

Both compute with OpenMP, on Linux mostly with GNU's. A thread that comes first to a barrier spins there for some milliseconds.
Alone that is fastest, as the others come within microseconds and a sleeper takes longer than that to wake. Beside another program
it is slowest: the thread that is waited for has no core, and the one that spins keeps one from it. GNU's library hardly spins at
all while it manages more threads than there are cores (`gomp_throttled_spin_count_var` in its `env.c` and `wait.h`), so a team of
threads that does nothing makes all others sleep, for as long as it lives. No result depends on it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path

MAPS, STAT = Path("/proc/self/maps"), Path("/proc/stat")
WINDOW_S = 1.0  # of work that is judged together
STARVED = 0.85  # share of their time that spinning threads got a core for; below it, somebody else has cores
IDLE = 0.12  # share of the machine's cores that are idle while threads sleep at barriers; above it, nobody else wants them
FIRST_PATIENCE_S, LONGEST_PATIENCE_S = 2.0, 60.0  # before threads spin again; longer each time that this was wrong


class IdleTeam:
    """A team of threads that does nothing, in every GNU OpenMP library of this process; while it lives, others wait asleep."""

    def __init__(self, n_threads: int) -> None:
        """Args: n_threads, of the team; more than there are cores."""
        self._n_threads, self._end = n_threads, threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def lives(self) -> bool:
        """Whether it lives."""
        return self._thread is not None

    def start(self) -> None:
        """Let it live; nothing happens if it does already, or no such library is loaded."""
        libraries = gnu_openmp()
        if self._thread is None and libraries:
            self._end.clear()
            self._thread = threading.Thread(target=self._live, args=[libraries], name="idle OpenMP team", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let it end; safe to call twice."""
        if self._thread is not None:
            self._end.set()
            self._thread.join()
            self._thread = None

    def _live(self, libraries: list[Path]) -> None:
        """Make a team in each library; a team ends with the thread that made it."""
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)  # given no address, it returns at once
        for library in libraries:
            parallel = ctypes.CDLL(str(library))["GOMP_parallel"]
            parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            parallel.restype = None
            parallel(nothing, None, self._n_threads, 0)
        self._end.wait()


class Waiting:
    """Chooses how threads wait, from how much of the cores they got. Close it, so that later work waits as usual."""

    def __init__(self, idle_share: Callable[[], float | None] | None = None) -> None:
        """Begin with spinning threads. Args: idle_share, see :class:`IdleShare`, which is the default."""
        self._team = IdleTeam((os.cpu_count() or 1) + 1)
        self._idle_share = idle_share or IdleShare()
        self._seconds = self._cpu_seconds = 0.0
        self._patience_s, self._asleep_s = FIRST_PATIENCE_S, 0.0
        self._just_woke = False

    @property
    def asleep(self) -> bool:
        """Whether waiting threads sleep."""
        return self._team.lives

    def worked(self, n_threads: int, seconds: float, cpu_seconds: float) -> None:
        """Take note of a piece of work, and change the way of waiting where that was wrong.

        Args:
            n_threads: that worked on it.
            seconds: its duration.
            cpu_seconds: the time that the process spent on cores meanwhile, of all threads together.
        """
        self._seconds, self._cpu_seconds = self._seconds + seconds, self._cpu_seconds + cpu_seconds
        if n_threads < 2 or self._seconds < WINDOW_S:
            return
        got, seconds = self._cpu_seconds / (n_threads * self._seconds), self._seconds
        self._seconds = self._cpu_seconds = 0.0
        idle = self._idle_share()
        if self.asleep:
            self._asleep_s += seconds
            if self._asleep_s >= self._patience_s and (idle is None or idle > IDLE):
                self._team.stop()
                self._just_woke = True
        elif got < STARVED:
            self._patience_s = min(2 * self._patience_s, LONGEST_PATIENCE_S) if self._just_woke else FIRST_PATIENCE_S
            self._asleep_s = 0.0
            self._team.start()
        else:
            self._just_woke = False

    def close(self) -> None:
        """Let threads wait as usual; safe to call twice."""
        self._team.stop()


class IdleShare:
    """The share of the machine's cores that was idle since the last call; None where the system does not say, and at first."""

    def __init__(self, stat: Path = STAT) -> None:
        """Args: stat, where the system counts its time."""
        self._stat = stat
        self._before: tuple[int, int] | None = None

    def __call__(self) -> float | None:
        """Read the counters."""
        try:
            counts = [int(word) for word in self._stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        now, before = (counts[3] + counts[4], sum(counts)), self._before
        self._before = now
        return None if before is None or now[1] == before[1] else (now[0] - before[0]) / (now[1] - before[1])


def gnu_openmp(maps: Path = MAPS) -> list[Path]:
    """The GNU OpenMP libraries that this process has loaded, each once; torch brings one of its own."""
    try:
        lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    paths = {fields[5] for line in lines if len(fields := line.split(None, 5)) == 6}
    return sorted(Path(path) for path in paths if Path(path).name.startswith("libgomp"))
