"""Progress: a bar on a terminal (stderr) or in a notebook; elsewhere, for logs and machines, a line at most every ten seconds.

A context manager for each kind of stage: plain counts, steps with a loss, or paths with what the labels look like.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from potstill.commands.console.lines import SECONDS_BETWEEN_LINES, Speeds, write_line
from potstill.commands.console.notebook import NotebookBar, is_notebook

if TYPE_CHECKING:  # training and export do without the labeler
    from potstill.labeler.run.progress import LiveRun, RunSnapshot

SECONDS_BETWEEN_LOOKS = 1.0  # on a terminal; what the labels look like is computed from all paths
LOSS_SMOOTHING = 0.95  # of the loss that is shown: a single batch's jumps about
_MAX_SHOWN = 4  # labels in the looks; the line has to stay one
_LOOK_SHARE = 0.02  # of the time may go into looks, when there are many paths


# Plain counts: fetching, exporting, measuring.


@contextmanager
def progress(unit: str = "steps", per_unit: float = 1) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (stage, done, total) that shows how far a stage is.

    Args:
        unit: what the speed counts.
        per_unit: how many of what is counted make one unit: 8 paths are one text, say.
    """
    if is_notebook():
        yield _BarsByStage().show
        return
    if not sys.stderr.isatty():
        yield _count_lines(unit, per_unit)
        return
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        _SpeedColumn(),
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


class _BarsByStage:
    """A bar of a notebook for each stage."""

    def __init__(self) -> None:
        self._bars: dict[str, NotebookBar] = {}

    def show(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Write the stage's bar anew."""
        self._bars.setdefault(stage, NotebookBar()).show(stage, done, total, note)


class _SpeedColumn(ProgressColumn):
    """`3.4 texts/s`."""

    def render(self, task: Task) -> Text:
        """The speed of what was done in this process, not of what was found done."""
        per_unit = task.fields["per_unit"]
        return Text(f"{(task.speed or 0) / per_unit:.1f} {task.fields['unit']}/s" if task.speed else "")


def _count_lines(unit: str, per_unit: float) -> Callable[[str, int, int], None]:
    """A plain line now and then."""
    speeds = Speeds()

    def show(stage: str, done: int, total: int) -> None:
        if speed := speeds.due(stage, done):
            left_s = (total - done) / speed
            write_line(f"{stage}: {done} of {total}, {speed / per_unit:.2f} {unit}/s, {left_s:.0f} s left")

    return show


# Training: steps, with the loss.


@contextmanager
def train_progress() -> Iterator[Callable[[str, int, int, float], None]]:
    """A callback (stage, steps done, steps planned, loss of the step) that shows how far a training is; no loss where it is NaN."""
    if is_notebook():
        bars_by_stage, means = _BarsByStage(), _SmoothedLosses()
        yield lambda stage, done, total, loss: bars_by_stage.show(stage, done, total, _loss_note(means.add(stage, loss)))
        return
    if not sys.stderr.isatty():
        yield _loss_lines()
        return
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps{task.fields[loss]},"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, int] = {}
        losses = _SmoothedLosses()

        def show(stage: str, done: int, total: int, loss: float) -> None:
            mean = losses.add(stage, loss)
            told = _loss_note(mean)
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, completed=done, loss=told)
            bars.update(tasks[stage], completed=done, total=total, loss=told)  # type: ignore[arg-type]  # rich's TaskID is an int

        yield show


def _loss_note(mean: float) -> str:
    """`, loss 0.5123`; empty where there is none."""
    return "" if math.isnan(mean) else f", loss {mean:.4f}"


class _SmoothedLosses:
    """Running mean of each stage's loss, as exact at the start as later."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, stage: str, loss: float) -> float:
        """The mean with one more step's loss in it."""
        total, weight = self._sums.get(stage, (0.0, 0.0))
        total, weight = LOSS_SMOOTHING * total + loss, LOSS_SMOOTHING * weight + 1
        self._sums[stage] = total, weight
        return total / weight


def _loss_lines() -> Callable[[str, int, int, float], None]:
    """A JSON line now and then."""
    speeds, losses = Speeds(), _SmoothedLosses()

    def show(stage: str, done: int, total: int, loss: float) -> None:
        mean = losses.add(stage, loss)
        if speed := speeds.due(stage, done):
            line = {"stage": stage, "step": done, "steps": total} | ({} if math.isnan(mean) else {"loss": round(mean, 6)})
            line |= {"steps_per_s": round(speed, 3), "seconds_left": round((total - done) / speed)}
            write_line(msgspec.json.encode(line).decode())

    return show


# Labelling: paths, with what the labels look like so far.


@contextmanager
def label_progress() -> Iterator[Callable[[LiveRun], None]]:
    """A callback that shows how far a labelling run is."""
    if is_notebook():
        one = NotebookBar()
        yield lambda live: one.show("label", live.n_paths, live.total, "paths")
        return
    if not sys.stderr.isatty():
        yield _label_lines()
        return
    columns = (
        TextColumn("label"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("paths, {task.fields[speed]} left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[looks]}", markup=False),  # names of labels, which may look like markup
    )
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    bar = bars.add_task("label", total=None, speed="", looks="")
    next_look = 0.0

    def show(live: LiveRun) -> None:
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
    common = sorted(now.shares, key=lambda name: -now.shares[name])[:_MAX_SHOWN]
    parts = [" ".join(f"{name} {share:.0%}" for name, share in now.shares.items() if name in common)]
    if len(now.shares) > len(common):
        parts.append(f"{len(now.shares) - len(common)} other labels")
    if now.agreement is not None:
        parts.append(f"agreement {now.agreement:.2f}")
    if now.unreadable:
        parts.append(f"unreadable {now.unreadable:.0%}")
    if now.accuracy is not None:
        parts.append(f"gold {now.accuracy:.2f} (n={now.n_gold})")
    return ", ".join(part for part in parts if part)


def _label_lines() -> Callable[[LiveRun], None]:
    """A JSON line now and then."""
    shown = time.monotonic()

    def show(live: LiveRun) -> None:
        nonlocal shown
        if time.monotonic() - shown >= SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            figures = {name: _rounded(value) for name, value in msgspec.structs.asdict(live.snapshot()).items()}
            figures["shares"] = {name: _rounded(share) for name, share in figures["shares"].items() if share}  # of 200 labels, say
            write_line(msgspec.json.encode({"stage": "label", **figures}).decode())

    return show


def _rounded(value: Any) -> Any:
    """A number to four places; anything else as it is."""
    return round(value, 4) if isinstance(value, float) else value


# Both kinds of lines.
