"""Draw some paths for a short time, and estimate from them how long a labelling run will take.

The paths are drawn and stored as in a real run, in a temporary store, so the pace holds whatever a run does. Two modes are timed:
`direct` gives the time to read a text, `cot` that of a rationale on top of it; a cascade is made of both. Of a task of several
questions those that share a prompt are timed together, and the others one by one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.questions.questionnaire import Questionnaire
from potstill.contract.task import Input, Task
from potstill.contract.texts import Text
from potstill.labeler.aggregation.soft_labels import soft_labels
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.several import Fork
from potstill.labeler.prompts.variants import Nearest
from potstill.labeler.run.label import LabelReport, label
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.run.progress import LiveRun
from potstill.labeler.run.questions import NearestOf, QuestionsJob, label_part, parts_of
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.teacher import Teacher, TeacherPath
from potstill.labeler.teachers.local import LocalTeacher

N_TEXTS = 512  # drawn from at most, at random
N_PATHS = 8  # of a text in the timed mode `cot`
DIRECT_SHARE = 0.4  # of the time; rationales vary more, so they get the rest
_SETTLE_S, _SETTLE_PATH_S = 0.3, 1e-4  # deriving and writing soft labels: at least, and for each path (docs/log.md)
_AROUND = 40  # characters of a prompt beside its text: "Text:", the cue, line breaks
_LEAST_PATHS = 4  # a pace from fewer is not one


@dataclass(frozen=True)
class LabellingPace:
    """How long one teacher takes on this machine for texts like these; of several questions, for all of them."""

    start_s: float  # until the teacher is open
    variant_s: float  # of each prompt variant that is asked directly: its context, and what all texts share
    read_s: float  # of one text in one prompt variant
    rationale_s: float | None  # of one sampled rationale with its answer, when many are drawn together; None: not measured
    reasoning_s: float = 0.0  # of each prompt variant that reasons first: the same, and until rationales end one after the other
    settle_s: float = _SETTLE_S  # to derive and write soft labels, apart from their number
    n_asks: int = 1  # questions and tags, each of which has every path

    def scaled(self, ratio: float) -> LabellingPace:
        """The pace of a teacher whose weights are that many times as large: reading weights is what takes the time."""
        rationale_s = None if self.rationale_s is None else self.rationale_s * ratio
        return replace(
            self,
            start_s=self.start_s * ratio,
            variant_s=self.variant_s * ratio,
            read_s=self.read_s * ratio,
            rationale_s=rationale_s,
            reasoning_s=self.reasoning_s * ratio,
        )

    def beside(self, other: LabellingPace) -> LabellingPace:
        """The pace of asking both, one after the other; the teacher is opened once, for which this one's time counts."""
        both = None if self.rationale_s is None or other.rationale_s is None else self.rationale_s + other.rationale_s
        return LabellingPace(
            self.start_s,
            self.variant_s + other.variant_s,
            self.read_s + other.read_s,
            both,
            self.reasoning_s + other.reasoning_s,
            self.settle_s + other.settle_s - _SETTLE_S,
            self.n_asks + other.n_asks,
        )

    def fixed_s(self, config: LabelConfig) -> float:
        """Seconds of a run apart from its texts. Args: config, with a real mode."""
        prompts_s = config.direct_variants * self.variant_s + config.cot_variants * self.reasoning_s
        return self.start_s + self.settle_s + prompts_s

    def text_s(self, config: LabelConfig) -> float | None:
        """Mean seconds of a text, its soft label included; None if the mode was not measured. Args: config, with a real mode."""
        settle_s = _SETTLE_PATH_S * config.most_paths * self.n_asks
        if config.mode == "direct":
            return config.n_paths * self.read_s + settle_s
        if self.rationale_s is None:
            return None
        reasoned = config.cot_variants * self.read_s + config.n_paths * self.rationale_s
        if config.mode == "cot":
            return reasoned + settle_s
        return config.n_direct * self.read_s + config.uncertain * reasoned + settle_s

    def run_s(self, config: LabelConfig, n_texts: int) -> float | None:
        """Seconds of a whole run; None if the mode was not measured. Args: config, with a real mode."""
        text_s = self.text_s(config)
        return None if text_s is None else self.fixed_s(config) + n_texts * text_s


def pilot_texts(texts: Sequence[Text]) -> list[Text]:
    """The texts that paths are drawn of, at random: they look like all of them."""
    return random.Random(0).sample(list(texts), min(N_TEXTS, len(texts)))


@dataclass(frozen=True)
class _Drawing:
    """What is timed together."""

    draw: Callable[[Sequence[Text], Path, LabelConfig, RunCallback | None, float | None], LabelReport]
    teacher: Teacher
    input: Input
    n_asks: int = 1  # questions and tags


def measured_pace(
    task: Task,
    texts: Sequence[Text],
    teacher: Teacher,
    config: LabelConfig,
    seconds: float,
    *,
    start_s: float,
    cot: bool,
    nearest: Nearest | None = None,
) -> LabellingPace:
    """Draw paths for about so many seconds, and return the pace for texts of the mean length of all.

    Args:
        texts: all that are to be labelled.
        config: prompts and sampling; mode and numbers of paths are left aside.
        seconds: to measure; more where the first paths take longer than that.
        start_s: seconds that it took to open the teacher.
        cot: whether rationales are timed too.
        nearest: worked examples for each of the :func:`pilot_texts`, where the configuration chooses them by similarity.
    Raises:
        UserError: as :func:`potstill.labeler.run.label.label` does.
    """

    def draw(
        some: Sequence[Text], store: Path, config: LabelConfig, watch: RunCallback | None, ends_at: float | None
    ) -> LabelReport:
        return label(task, some, store, teacher, config, watch, nearest, ends_at=ends_at)

    return _paced(_Drawing(draw, teacher, task.input), texts, config, seconds, start_s, cot=cot)


def measured_questions_pace(
    task: Questionnaire,
    texts: Sequence[Text],
    teacher: Teacher,
    config: LabelConfig,
    seconds: float,
    *,
    start_s: float,
    cot: bool,
    nearest_of: NearestOf,
) -> LabellingPace:
    """The same for a task of several questions; what shares a prompt shares its time. Each part has its share of the seconds.

    Args:
        config: as for :func:`measured_pace`; in mode `cascade` every question is asked alone.
        nearest_of: worked examples for each text of one question, where they are chosen by similarity.
        texts, teacher, seconds, start_s, cot: as there.
    Raises:
        UserError: as there.
    """

    def draw(
        part: Sequence[Fork],
        some: Sequence[Text],
        store: Path,
        config: LabelConfig,
        watch: RunCallback | None,
        ends_at: float | None,
    ) -> LabelReport:
        return label_part(QuestionsJob(task, store, config, nearest_of), part, some, teacher, watch, ends_at=ends_at)

    parts = parts_of(task, teacher, config if config.mode == "cascade" else replace(config, mode="direct"))
    sizes = [sum(len(fork.asks) for fork in part) for part in parts]
    found: LabellingPace | None = None
    for part, size in zip(parts, sizes, strict=True):
        own = _Drawing(partial(draw, part), teacher, task.input, size)
        pace = _paced(own, texts, config, seconds * size / sum(sizes), start_s, cot=cot)
        found = pace if found is None else found.beside(pace)
    if found is None:
        raise UserError(f"task {task.name!r} asks nothing")
    return found


def _paced(
    drawing: _Drawing, texts: Sequence[Text], config: LabelConfig, seconds: float, start_s: float, *, cot: bool
) -> LabellingPace:
    """The pace of what is drawn; arguments as for :func:`measured_pace`."""
    sample, teacher = pilot_texts(texts), drawing.teacher
    plain = replace(config, n_variants=None, bound=0.0, deterministic=False)
    direct_s = DIRECT_SHARE * seconds if cot else seconds
    direct = _timed(drawing, sample, replace(plain, mode="direct", n_paths=1), direct_s)
    if isinstance(teacher, LocalTeacher) and teacher.measures_again:
        start_s += direct.warm_s
    longer = _mean_length(drawing.input, texts) / direct.mean_length
    # what all texts read beside their own words, such as the cue, is short: tokens follow from characters
    read_s = direct.path_s * longer
    n_asks = drawing.n_asks
    if not cot:
        return LabellingPace(start_s, direct.first_s, read_s, None, settle_s=direct.settle_s, n_asks=n_asks)
    reasoned = _timed(drawing, sample, replace(plain, mode="cot", n_paths=N_PATHS), seconds - direct_s)
    reading = direct.path_s * reasoned.mean_length / direct.mean_length
    rationale_s = max(reasoned.path_s - reading / N_PATHS, 0.0)
    return LabellingPace(start_s, direct.first_s, read_s, rationale_s, reasoned.first_s, direct.settle_s, n_asks)


@dataclass(frozen=True)
class _Timing:
    """What drawing some paths took."""

    first_s: float  # until the first paths, without their own time: context and shared prefix
    path_s: float  # of a path of each question
    mean_length: float  # characters of the texts that got paths
    settle_s: float
    warm_s: float  # of the first path, which pays for what a teacher measures at its start


def _timed(drawing: _Drawing, texts: Sequence[Text], config: LabelConfig, seconds: float) -> _Timing:
    """Draw paths of the texts for so many seconds, and time them.

    Raises:
        UserError: if hardly any path was drawn.
    """
    calls: list[tuple[float, int]] = []

    def watch(live: LiveRun) -> None:
        if live.n_drawn:  # questions that are asked together show their stored paths first
            calls.append((time.monotonic(), live.n_drawn))

    n_asks = drawing.n_asks
    with atomic.scratch("potstill-pilot") as folder:
        store_path = folder / "labels.db"
        # One text pays for what is measured once; with another seed, so that the prompt's shared part is still to be read.
        warm = replace(config, n_paths=1, seed=config.seed + 1)
        warming = time.monotonic()
        drawing.draw(texts[:1], folder / "warm.db", warm, None, None)
        began = time.monotonic()
        report = drawing.draw(texts, store_path, config, watch, began + seconds)
        if report.n_drawn < _LEAST_PATHS * n_asks:
            name = drawing.teacher.identity.name
            raise UserError(
                f"{name} drew {report.n_drawn} paths in {seconds:.0f} s, too few to plan with; give more seconds with --measure"
            )
        with LabelStore.read(store_path) as store:
            run, paths = _most_paths(store)
            settling = time.monotonic()
            soft_labels(store, run)
            settle_s = n_asks * (time.monotonic() - settling)
    path_s, first_s = _steady(calls, began, config.n_paths * n_asks)
    return _Timing(first_s, path_s * n_asks, _length_of(drawing.input, texts, paths), _SETTLE_S + settle_s, began - warming)


def _most_paths(store: LabelStore) -> tuple[Run, list[TeacherPath]]:
    """The run with the most paths, and these: of several questions some have hardly any when the time is up."""
    return max(((run, list(store.paths(run))) for run in store.runs()), key=lambda found: len(found[1]))


def _steady(calls: Sequence[tuple[float, int]], began: float, n_together: int) -> tuple[float, float]:
    """(seconds a path, seconds before the first paths) of what arrived.

    The first arrivals are left out: while the first texts are read, nothing arrives, and the shortest rationales arrive first.

    Args:
        calls: moment and number of paths so far, rising.
        n_together: paths of a text; that many texts' worth of arrivals are left out.
    """
    (last_at, last_n) = calls[-1]
    skipped = next(((at, n) for at, n in calls if n >= n_together and n <= last_n / 2), None)
    if skipped is None:
        return (last_at - began) / last_n, 0.0
    at, n = skipped
    path_s = (last_at - at) / (last_n - n)
    return path_s, max(0.0, at - began - n * path_s)


def _length_of(shown: Input, texts: Sequence[Text], paths: Sequence[TeacherPath]) -> float:
    """Mean length in characters of the texts of the paths, each path counted."""
    lengths = {text.id: _length(shown, text) for text in texts}
    return sum(lengths[path.text_id] for path in paths) / len(paths)


def _mean_length(shown: Input, texts: Sequence[Text]) -> float:
    """Mean length of the texts in characters, as the teacher sees them."""
    return sum(_length(shown, text) for text in texts) / len(texts)


def _length(shown: Input, text: Text) -> int:
    """Characters of a text that a prompt shows, and about those of the lines around it."""
    return min(len(text.text), shown.max_chars) + _AROUND
