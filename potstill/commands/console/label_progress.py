"""How a labelling run is going, on stderr: a bar and what the labels look like on a terminal, else now and then a JSON line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from potstill.labeler.run.progress import RunProgress, RunSnapshot

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_LOOKS = 1.0  # on a terminal; what the labels look like is computed from all paths
_LOOK_SHARE = 0.02  # of the time may go into looks, when there are many paths


@contextmanager
def label_progress() -> Iterator[Callable[[RunProgress], None]]:
    """A callback that shows how far a labelling run is."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    columns = (
        TextColumn("label"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("paths, {task.fields[speed]} left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[looks]}"),
    )
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    bar = bars.add_task("label", total=None, speed="", looks="")
    next_look = 0.0

    def show(live: RunProgress) -> None:
        nonlocal next_look
        bars.start()  # now and not before, so that what is told about the start stands above the bar
        bars.update(bar, completed=live.n_paths, total=live.total)
        began = time.monotonic()
        if began >= next_look:
            now = live.snapshot()
            bars.update(bar, speed=f"{now.texts_per_s or 0:.1f} texts/s,", looks=looks(now))
            ended = time.monotonic()
            next_look = ended + max(SECONDS_BETWEEN_LOOKS, (ended - began) / _LOOK_SHARE)

    try:
        yield show
    finally:
        bars.stop()


def looks(now: RunSnapshot) -> str:
    """`positive 34% negative 31% neutral 35%, agreement 0.61, unreadable 2%, gold 0.52 (n=120)`."""
    parts = [" ".join(f"{name} {share:.0%}" for name, share in now.shares.items())]
    if now.agreement is not None:
        parts.append(f"agreement {now.agreement:.2f}")
    if now.unreadable:
        parts.append(f"unreadable {now.unreadable:.0%}")
    if now.accuracy is not None:
        parts.append(f"gold {now.accuracy:.2f} (n={now.n_gold})")
    return ", ".join(part for part in parts if part)


def _lines() -> Callable[[RunProgress], None]:
    """A JSON line at most every ten seconds: for logs and for machines."""
    shown = time.monotonic()

    def show(live: RunProgress) -> None:
        nonlocal shown
        if time.monotonic() - shown >= SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            sys.stderr.write(msgspec.json.encode({"stage": "label", **msgspec.structs.asdict(live.snapshot())}).decode() + "\n")
            sys.stderr.flush()

    return show
