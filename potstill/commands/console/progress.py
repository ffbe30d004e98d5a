"""Progress: a bar on a terminal (stderr) or in a notebook; elsewhere, for logs and machines, a line at most every ten seconds.

A context manager for each kind of stage: plain counts, steps with a loss, or paths with what the labels look like.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from potstill.commands.console.lines import SECONDS_BETWEEN_LINES, Speeds, write_line
from potstill.commands.console.notebook import NotebookBar, is_notebook
from potstill.contract.system.progress import Watcher, watched_by

if TYPE_CHECKING:  # training and export do without the labeler
    from potstill.labeler.run.progress import LiveRun, RunSnapshot

SECONDS_BEFORE_BAR = 2.0  # on a terminal; what is done by then needs no bar
SECONDS_BETWEEN_LOOKS = 1.0  # on a terminal; what the labels look like is computed from all paths
LOSS_SMOOTHING = 0.95  # of the loss that is shown: a single batch's jumps about
_MAX_SHOWN = 4  # labels in the looks; the line has to stay one
_LOOK_SHARE = 0.02  # of the time may go into looks, when there are many paths


# Plain counts: embedding, answering, exporting, measuring.


@contextmanager
def progress(whole: str = "", unit: str = "", per_unit: float = 1, *, timed: bool = False) -> Iterator[Watcher]:
    """A callback (stage, done, total) that shows how far a stage is; stages that are told of deep inside are shown, too.

    On a terminal there is one line, of the stage that was told last, and none before `SECONDS_BEFORE_BAR`.

    Args:
        whole: what is done in all, shown while no stage is; empty: nothing is.
        unit: what the speed counts; empty: what the stage names.
        per_unit: how many of what is counted make one unit: 8 paths are one text, say.
        timed: the work is timed, so the line is drawn where a stage is told and never beside the work.
    """
    if sys.stderr.isatty() and not is_notebook():
        with _stage_line(whole, unit, per_unit, timed=timed) as line, watched_by(line.show):
            yield line.show
        return
    show: Watcher = _BarsByStage().show_counted if is_notebook() else _count_lines(unit, per_unit)
    with watched_by(show):
        yield show


@contextmanager
def _stage_line(whole: str = "", unit: str = "", per_unit: float = 1, *, timed: bool = False) -> Iterator[_StageLine]:
    """The line on a terminal. Args: as :func:`progress`."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), _FiguresColumn(timed))
    with _bars_after_a_while(*columns, timed=timed) as bars:
        yield _StageLine(bars, whole, unit, per_unit)


@contextmanager
def _bars_after_a_while(*columns: ProgressColumn, timed: bool) -> Iterator[Progress]:
    """Bars on the terminal that are drawn once the work has taken a while, and are gone after it."""
    console = Console(stderr=True)
    whole_terminal = sys.stdout.isatty()  # else a file gets its lines itself
    bars = Progress(*columns, console=console, transient=True, redirect_stdout=whole_terminal, auto_refresh=not timed)
    timer = threading.Timer(SECONDS_BEFORE_BAR, bars.start)
    timer.daemon = True
    if SECONDS_BEFORE_BAR:
        timer.start()
    else:
        bars.start()
    try:
        yield bars
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()  # it may be starting them just now
        bars.stop()


class _StageLine:
    """The line of the stage that was told last. One that is finished makes place for the one before it."""

    def __init__(self, bars: Progress, whole: str, unit: str, per_unit: float) -> None:
        """Show nothing yet but the whole, if it has a name."""
        self._bars, self._unit, self._per_unit = bars, unit, per_unit
        self._tasks: dict[str, TaskID] = {}
        self._open: list[str] = []  # stages, the last one shown
        self._named = ""  # the open one that counts nothing, which the next stage ends
        if whole:
            self.show(whole, 0, 0)
            self._named = ""

    def show(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Take in how far a stage is; without a total it lasts until the next one is told. Args: note, behind the counts."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(
                stage, total=None, completed=done, visible=False, unit=self._unit, per_unit=self._per_unit, note=note
            )
        elif stage not in self._open:
            self._bars.reset(self._tasks[stage], completed=done, visible=False)  # a second time: its speed is another
        self._bars.update(self._tasks[stage], completed=done, total=total or None, note=note)
        self._open = [name for name in self._open if name not in (stage, self._named)]
        self._named = "" if total else stage
        if not 0 < total <= done:
            self._open.append(stage)
        for name, task in self._tasks.items():
            self._bars.update(task, visible=name in self._open[-1:])
        if not self._bars.live.auto_refresh and self._bars.live.is_started:
            self._bars.refresh()


class _FiguresColumn(ProgressColumn):
    """`640/2000, 120.0 texts/s, 0:00:11 left`; without a total what there is of it, and the time that it has taken."""

    def __init__(self, timed: bool) -> None:
        """Args: timed, whether the line stays as it is until the next stage, so that a time in it would be an old one."""
        super().__init__()
        self._timed = timed

    def render(self, task: Task) -> Text:
        """The speed is that of what was done in this process, not of what was found done."""
        counts = "" if task.total is None else f"/{task.total:.0f}{task.fields['note']}"
        parts = [f"{task.completed:.0f}{counts}"] if task.completed or counts else []
        if task.speed:
            parts.append(f"{task.speed / task.fields['per_unit']:.1f} {task.fields['unit']}".rstrip() + "/s")
        if task.total is None:
            parts += [] if self._timed else [_clock(task.elapsed or 0)]
        elif task.time_remaining is not None:
            parts.append(f"{_clock(task.time_remaining)} left")
        return Text(", ".join(parts))


def _clock(seconds: float) -> str:
    """`0:00:11`."""
    return str(timedelta(seconds=round(seconds)))


class _BarsByStage:
    """A bar of a notebook for each stage."""

    def __init__(self) -> None:
        self._bars: dict[str, NotebookBar] = {}

    def show(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Write the stage's bar anew."""
        self._bars.setdefault(stage, NotebookBar()).show(stage, done, total, note)

    def show_counted(self, stage: str, done: int, total: int) -> None:
        """The same, of a stage that counts something."""
        if total:
            self.show(stage, done, total)


def _count_lines(unit: str, per_unit: float) -> Callable[[str, int, int], None]:
    """A plain line now and then."""
    speeds = Speeds()

    def show(stage: str, done: int, total: int) -> None:
        if total and (speed := speeds.due(stage, done)):
            left_s = (total - done) / speed
            pace = f"{speed / per_unit:.2f} {unit}".rstrip()
            write_line(f"{stage}: {done} of {total}, {pace}/s, {left_s:.0f} s left")

    return show


# Training: steps, with the loss.


@contextmanager
def train_progress(whole: str = "") -> Iterator[Callable[[str, int, int, float], None]]:
    """A callback (stage, steps done, steps planned, loss of the step) that shows how far a training is; no loss where it is NaN.

    Args:
        whole: as :func:`progress` has it; stages that are told of deep inside are shown, too.
    """
    if not is_notebook() and not sys.stderr.isatty():
        write = _loss_lines()
        with watched_by(lambda stage, done, total: write(stage, done, total, math.nan)):
            yield write
        return
    losses = _SmoothedLosses()
    if is_notebook():
        bars = _BarsByStage()
        with watched_by(bars.show_counted):
            yield lambda stage, done, total, loss: bars.show(stage, done, total, _loss_note(losses.add(stage, loss)))
        return
    with _stage_line(whole) as line, watched_by(line.show):

        def show(stage: str, done: int, total: int, loss: float) -> None:
            note = _loss_note(losses.add(stage, loss))
            line.show(stage, done, total, f" steps{note}" if note else "")

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
        with watched_by(_BarsByStage().show_counted):
            yield lambda live: one.show("label", live.n_paths, live.total, "paths")
        return
    if not sys.stderr.isatty():
        steps = _loss_lines()
        with watched_by(lambda stage, done, total: steps(stage, done, total, math.nan)):
            yield _label_lines()
        return
    with _label_bar() as show:
        yield show


@contextmanager
def _label_bar() -> Iterator[Callable[[LiveRun], None]]:
    """The bar of a run; while something else is done, such as embedding its texts, the line of that stands in its place."""
    bars = Progress(*_label_columns(), console=Console(stderr=True), transient=True)
    bar = bars.add_task("label", total=None, speed="", looks="")
    next_look, others = 0.0, ExitStack()
    line: Watcher | None = None

    def show_other(stage: str, done: int, total: int) -> None:
        nonlocal line
        if line is None:
            bars.stop()
            line = others.enter_context(_stage_line()).show
        line(stage, done, total)

    def show(live: LiveRun) -> None:
        nonlocal next_look, line
        if line is not None:
            others.close()
            line = None
        bars.start()  # now and not before, so that what is told about the start stands above the bar
        bars.update(bar, completed=live.n_paths, total=live.total)
        began = time.monotonic()
        if began >= next_look:
            now = live.snapshot()
            bars.update(bar, speed=f"{now.texts_per_s or 0:.1f} texts/s,", looks=looks(now))
            ended = time.monotonic()
            next_look = ended + max(SECONDS_BETWEEN_LOOKS, (ended - began) / _LOOK_SHARE)

    try:
        with others, watched_by(show_other):
            yield show
    finally:
        bars.stop()


def _label_columns() -> tuple[ProgressColumn, ...]:
    """`label ━━━ 8/8 paths, 3.4 texts/s, left 0:00:11 positive 34% ...`."""
    return (
        TextColumn("label"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("paths, {task.fields[speed]} left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[looks]}", markup=False),  # names of labels, which may look like markup
    )


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
