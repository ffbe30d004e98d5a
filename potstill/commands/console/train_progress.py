"""How a training is going, on stderr: a bar with the loss and the time left on a terminal, else a JSON line every ten seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Callback = Callable[[str, int, int, float], None]
SECONDS_BETWEEN_LINES = 10.0
SMOOTHING = 0.95  # of the loss that is shown: a single batch's jumps about


class _Smoothed:
    """Running mean of each stage's loss, as exact at the start as later."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, stage: str, loss: float) -> float:
        """The mean with one more step's loss in it."""
        total, weight = self._sums.get(stage, (0.0, 0.0))
        total, weight = SMOOTHING * total + loss, SMOOTHING * weight + 1
        self._sums[stage] = total, weight
        return total / weight


@contextmanager
def train_progress() -> Iterator[Callback]:
    """A callback (stage, steps done, steps planned, loss of the step) that shows how far a training is."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, loss {task.fields[loss]:.4f},"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, int] = {}
        smoothed = _Smoothed()

        def show(stage: str, done: int, total: int, loss: float) -> None:
            mean = smoothed.add(stage, loss)
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, completed=done, loss=mean)
            bars.update(tasks[stage], completed=done, total=total, loss=mean)  # type: ignore[arg-type]  # rich's TaskID is an int

        yield show


def _lines() -> Callback:
    """A JSON line at most every ten seconds: for logs and for machines."""
    shown = time.monotonic()
    began: dict[str, tuple[float, int]] = {}
    smoothed = _Smoothed()

    def show(stage: str, done: int, total: int, loss: float) -> None:
        nonlocal shown
        now = time.monotonic()
        mean = smoothed.add(stage, loss)
        start, first = began.setdefault(stage, (now, done))
        if now - shown < SECONDS_BETWEEN_LINES or now == start or done == first:  # no speed without work
            return
        shown = now
        speed = (done - first) / (now - start)
        line = {"stage": stage, "step": done, "steps": total, "loss": round(mean, 6)}
        line |= {"steps_per_s": round(speed, 3), "seconds_left": round((total - done) / speed)}
        sys.stderr.write(msgspec.json.encode(line).decode() + "\n")
        sys.stderr.flush()

    return show
