"""Progress on stderr: a bar on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Callback = Callable[[str, int, int], None]
SECONDS_BETWEEN_LINES = 10.0


class _Speed(ProgressColumn):
    """`3.4 texts/s`."""

    def render(self, task: Task) -> Text:
        """The speed of what was done in this process, not of what was found done."""
        per_unit = task.fields["per_unit"]
        return Text(f"{(task.speed or 0) / per_unit:.1f} {task.fields['unit']}/s" if task.speed else "")


@contextmanager
def progress(unit: str = "steps", per_unit: float = 1) -> Iterator[Callback]:
    """A callback (stage, done, total) that shows how far a stage is.

    Args:
        unit: what the speed counts.
        per_unit: how many of what is counted make one unit: 8 paths are one text, say.
    """
    if not sys.stderr.isatty():
        yield _lines(unit, per_unit)
        return
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, int] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, completed=done, unit=unit, per_unit=per_unit)
            bars.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]  # rich's TaskID is an int

        yield show


def _lines(unit: str, per_unit: float) -> Callback:
    """A line at most every ten seconds: for logs."""
    began: dict[str, tuple[float, int]] = {}
    shown = time.monotonic()

    def show(stage: str, done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        start, first = began.setdefault(stage, (now, done))
        if now - shown < SECONDS_BETWEEN_LINES or now == start or done == first:  # no speed without work
            return
        shown = now
        speed = (done - first) / (now - start)
        left = (total - done) / speed
        sys.stderr.write(f"{stage}: {done} of {total}, {speed / per_unit:.2f} {unit}/s, {left:.0f} s left\n")
        sys.stderr.flush()

    return show
