"""The runs that tuning draws on the gold texts: all in one store, each timed, none drawn twice."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import atomic
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.variants import Nearest, prompt_variants
from potstill.labeler.run.label import label, run_settings
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.run.progress import LiveRun
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.teacher import Teacher, TeacherPath
from potstill.labeler.tuning.comparison import token_cost

STORE_FILE, TIMES_FILE = "tune.db", "tune.json"
MIN_TIMED = 0.1  # share of a run's paths that must be timed: after a kill, few may be left


class PathTiming(msgspec.Struct, frozen=True):
    """Number of paths and the time they took, over all sessions."""

    seconds: float
    n_paths: int

    def __add__(self, other: PathTiming) -> PathTiming:
        """The sum of both."""
        return PathTiming(self.seconds + other.seconds, self.n_paths + other.n_paths)


@dataclass(frozen=True)
class GoldPaths:
    """A run's paths of the gold texts."""

    run: Run
    paths: list[TeacherPath]
    seconds_per_cost: float | None  # None: not timed

    def seconds(self, paths: Sequence[TeacherPath]) -> float | None:
        """Estimated time of some of the run's paths, by their share of its token cost."""
        return None if self.seconds_per_cost is None else self.seconds_per_cost * token_cost(paths)


class GoldRuns:
    """Draws runs into a folder, and keeps the time they took."""

    def __init__(
        self,
        task: Task,
        texts: Sequence[Text],
        out: pathlib.Path,
        teacher: Teacher,
        nearest: Nearest | None = None,
        progress: RunCallback | None = None,
    ) -> None:
        """Read the times of earlier sessions; raises FormatError if their file is damaged."""
        self.task, self.texts, self.teacher, self.nearest, self.progress = task, texts, teacher, nearest, progress
        self.store_path, self._times_path = out / STORE_FILE, out / TIMES_FILE
        self._times = _read_times(self._times_path)

    def of(self, task: Task) -> GoldRuns:
        """The same texts, asked about by another task, in the same store."""
        return GoldRuns(task, self.texts, self.store_path.parent, self.teacher, self.nearest, self.progress)

    def draw(self, config: LabelConfig) -> GoldPaths:
        """The configuration's paths; missing ones are drawn first. Raises as :func:`potstill.labeler.run.label.label`.

        The first text is labelled alone and not timed: it pays for the shared prefixes, which thousands of texts pay only once.
        """
        variants = prompt_variants(self.task, config, self.teacher.identity, self.nearest)
        settings = run_settings(self.task, variants, self.teacher, config)
        key = f"{settings.digest} {config.n_paths}"  # with the number, so that more paths do not change what is known
        wanted, watch = replace(config, new_run=True), Stopwatch(self.progress)
        label(self.task, self.texts[:1], self.store_path, self.teacher, wanted, self.progress, self.nearest)
        try:
            report = label(self.task, self.texts, self.store_path, self.teacher, wanted, watch, self.nearest)
        finally:  # after a stop, too: the next session may have few paths left to time
            self._remember(key, watch.timed())
        ids = {text.id for text in self.texts}
        with LabelStore.read(self.store_path) as store:
            paths = [path for path in store.paths(report.run) if path.text_id in ids and path.path < config.n_paths]
        return GoldPaths(report.run, paths, self._seconds_per_cost(key, paths))

    def _remember(self, key: str, timed: PathTiming) -> None:
        """Add the time measured now."""
        if timed.n_paths:
            self._times[key] = self._times.get(key, PathTiming(0.0, 0)) + timed
            atomic.write_file(self._times_path, msgspec.json.format(msgspec.json.encode(self._times), indent=2) + b"\n")

    def _seconds_per_cost(self, key: str, paths: Sequence[TeacherPath]) -> float | None:
        """Seconds per unit of token cost; None if too few of the paths were timed."""
        timed, cost = self._times.get(key), token_cost(paths)
        if timed is None or not cost or timed.n_paths < MIN_TIMED * len(paths):
            return None
        return timed.seconds / timed.n_paths * len(paths) / cost


class Stopwatch:
    """A progress callback that measures time."""

    def __init__(self, progress: RunCallback | None) -> None:
        """Start the clock. Args: progress, another callback to call."""
        self._progress = progress
        self._calls = [PathTiming(time.monotonic(), 0)]  # time and paths drawn so far: at the start, the first and the last call

    def __call__(self, live: LiveRun) -> None:
        """Record that some paths were stored."""
        self._calls = [*self._calls[:2], PathTiming(time.monotonic(), live.n_drawn)]
        if self._progress:
            self._progress(live)

    def timed(self) -> PathTiming:
        """Time since the first paths, which leaves one-time costs out; since the start if most of the paths came first."""
        start, first, last = self._calls[0], self._calls[min(1, len(self._calls) - 1)], self._calls[-1]
        since = first if last.n_paths >= 2 * first.n_paths else start
        return PathTiming(last.seconds - since.seconds, last.n_paths - since.n_paths)


def _read_times(path: pathlib.Path) -> dict[str, PathTiming]:
    """Read the times, by run digest and number of paths; empty before the first run."""
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, PathTiming])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(path, "", f"is damaged ({error}); delete it: only measured times are lost") from error
