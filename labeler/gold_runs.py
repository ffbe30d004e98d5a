"""The runs that tuning draws on the gold texts: all in one store, each timed, none drawn twice."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from contract import atomic
from contract.errors import FormatError
from contract.task import Task
from contract.texts import Text
from labeler.config import LabelConfig
from labeler.drawing import Progress
from labeler.paths import TeacherPath, token_cost
from labeler.questions import Nearest
from labeler.run import label
from labeler.store import LabelStore, Run
from labeler.teacher import Teacher

STORE_FILE, TIMES_FILE = "tune.db", "tune.json"


class Timed(msgspec.Struct, frozen=True):
    """How long the paths of a run took that one comparison added, over all sittings."""

    seconds: float
    n_paths: int


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
        progress: Progress | None = None,
    ) -> None:
        """Read the times of earlier sittings; raises FormatError if their file is damaged."""
        self.task, self.texts, self.teacher, self.nearest, self.progress = task, texts, teacher, nearest, progress
        self.store_path, self._times_path = out / STORE_FILE, out / TIMES_FILE
        self._times = _read_times(self._times_path)

    def draw(self, config: LabelConfig) -> GoldPaths:
        """The paths of the configuration, those drawn first that are not stored yet; raises as :func:`labeler.run.label`.

        The first text is asked alone and not timed: it pays for loading, measuring and the shared prefix, which thousands of texts
        pay only once.
        """
        wanted = replace(config, new_run=True)
        label(self.task, self.texts[:1], self.store_path, self.teacher, wanted, self.progress, self.nearest)
        report = label(self.task, self.texts, self.store_path, self.teacher, wanted, self.progress, self.nearest)
        key = (
            f"{report.run.settings.digest} {config.n_paths}"  # by number, so that what is known stays as it is when more are drawn
        )
        if report.n_drawn:
            earlier = self._times.get(key, Timed(0.0, 0))
            self._times[key] = Timed(earlier.seconds + report.seconds, earlier.n_paths + report.n_drawn)
            atomic.write_file(self._times_path, msgspec.json.format(msgspec.json.encode(self._times), indent=2) + b"\n")
        ids = {text.id for text in self.texts}
        with LabelStore.read(self.store_path) as store:
            paths = [path for path in store.paths(report.run) if path.text_id in ids and path.path < config.n_paths]
        timed = self._times.get(key)
        cost = token_cost(paths)
        rate = timed.seconds / timed.n_paths * len(paths) / cost if timed and cost else None
        return GoldPaths(report.run, paths, rate)


def _read_times(path: pathlib.Path) -> dict[str, Timed]:
    """Times by run digest and number of paths; none before the first run."""
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Timed])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(path, "", f"is damaged ({error}); delete it: only measured times are lost") from error
