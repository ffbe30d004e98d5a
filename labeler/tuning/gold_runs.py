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
from potstill.labeler.prompts.variants import Nearest, questions
from potstill.labeler.run.label import label, run_settings
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.run.progress import RunProgress
from potstill.labeler.store.label_store import LabelStore, Run
from potstill.labeler.teacher import Teacher, TeacherPath, token_cost


class PathTiming(msgspec.Struct, frozen=True):
    """So many paths took so long, over all sittings."""

    seconds: float
    n_paths: int

    def __add__(self, other: PathTiming) -> PathTiming:
        """Both together."""
        return PathTiming(self.seconds + other.seconds, self.n_paths + other.n_paths)


class Stopwatch:
    """A progress callback that keeps time."""

    def __init__(self, progress: RunCallback | None) -> None:
        """Start. Args: progress, is called too."""
        self._progress = progress
        self._calls = [PathTiming(time.monotonic(), 0)]  # when, and paths drawn until then: at the start, at first, at last

    def __call__(self, live: RunProgress) -> None:
        """Some paths were stored."""
        self._calls = [*self._calls[:2], PathTiming(time.monotonic(), live.n_drawn)]
        if self._progress:
            self._progress(live)

    def timed(self) -> PathTiming:
        """Time since the first paths, which come after all that is paid once; since the start where they were most of the paths."""
        start, first, last = self._calls[0], self._calls[min(1, len(self._calls) - 1)], self._calls[-1]
        since = first if last.n_paths >= 2 * first.n_paths else start
        return PathTiming(last.seconds - since.seconds, last.n_paths - since.n_paths)


STORE_FILE, TIMES_FILE = "tune.db", "tune.json"
MIN_TIMED = 0.1  # share of a run's paths: after a kill, hardly any may be left to time


@dataclass(frozen=True)
class GoldPaths:
    """What a run drew for the gold texts."""

    run: Run
    paths: list[TeacherPath]
    seconds_per_cost: float | None  # None: it was not timed

    def seconds(self, paths: Sequence[TeacherPath]) -> float | None:
        """Estimated time of some of the run's paths, by their share of its token cost."""
        return None if self.seconds_per_cost is None else self.seconds_per_cost * token_cost(paths)


class GoldRuns:
    """Draws runs into a folder, and remembers how long they took."""

    def __init__(
        self,
        task: Task,
        texts: Sequence[Text],
        out: pathlib.Path,
        teacher: Teacher,
        nearest: Nearest | None = None,
        progress: RunCallback | None = None,
    ) -> None:
        """Read the times of earlier sittings; raises FormatError if their file is damaged."""
        self.task, self.texts, self.teacher, self.nearest, self.progress = task, texts, teacher, nearest, progress
        self.store_path, self._times_path = out / STORE_FILE, out / TIMES_FILE
        self._times = _read_times(self._times_path)

    def draw(self, config: LabelConfig) -> GoldPaths:
        """The paths of the configuration, those drawn first that are not stored yet; raises as :func:`potstill.labeler.run.label.label`.

        The first text is asked alone and not timed: it pays for the shared prefixes, which thousands of texts pay only once.
        """
        asked = questions(self.task, config, self.teacher.identity, self.nearest)
        settings = run_settings(self.task, asked, self.teacher, config)
        key = f"{settings.digest} {config.n_paths}"  # by number, so that what is known stays as it is when more are drawn
        wanted, watch = replace(config, new_run=True), Stopwatch(self.progress)
        label(self.task, self.texts[:1], self.store_path, self.teacher, wanted, self.progress, self.nearest)
        try:
            report = label(self.task, self.texts, self.store_path, self.teacher, wanted, watch, self.nearest)
        finally:  # stopped, too: the next sitting may have hardly any paths left to time
            self._remember(key, watch.timed())
        ids = {text.id for text in self.texts}
        with LabelStore.read(self.store_path) as store:
            paths = [path for path in store.paths(report.run) if path.text_id in ids and path.path < config.n_paths]
        return GoldPaths(report.run, paths, self._seconds_per_cost(key, paths))

    def _remember(self, key: str, timed: PathTiming) -> None:
        """Add what was timed now."""
        if timed.n_paths:
            self._times[key] = self._times.get(key, PathTiming(0.0, 0)) + timed
            atomic.write_file(self._times_path, msgspec.json.format(msgspec.json.encode(self._times), indent=2) + b"\n")

    def _seconds_per_cost(self, key: str, paths: Sequence[TeacherPath]) -> float | None:
        """Time of one unit of cost; None where too few of the paths were timed to say."""
        timed, cost = self._times.get(key), token_cost(paths)
        if timed is None or not cost or timed.n_paths < MIN_TIMED * len(paths):
            return None
        return timed.seconds / timed.n_paths * len(paths) / cost


def _read_times(path: pathlib.Path) -> dict[str, PathTiming]:
    """Times by run digest and number of paths; none before the first run."""
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, PathTiming])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(path, "", f"is damaged ({error}); delete it: only measured times are lost") from error
