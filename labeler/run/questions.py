"""A labelling run of a task of several questions: all of them over one decoding of each text, or one after the other.

Each question, and each tag, is a run of its own in the store. Which paths are missing is decided for each by itself, so whatever
was drawn before a stop is kept.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec

from potstill.contract.errors import StoppedError
from potstill.contract.questions.question import NO, YES
from potstill.contract.questions.questionnaire import Ask, Questionnaire
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.several import (
    Fork,
    SharedVariant,
    asked_alone,
    asked_together,
    shared_variants,
    shares_prompt,
    variants_digest,
)
from potstill.labeler.prompts.variants import Nearest
from potstill.labeler.run.label import LabelReport, begin, label, n_cut_texts, settings_of
from potstill.labeler.run.path_collector import OutOfTimeError, RunCallback
from potstill.labeler.run.progress import LiveRun, RunSnapshot
from potstill.labeler.run.shared_collector import SharedCollector
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.store.questions import OneQuestion
from potstill.labeler.teacher import Teacher
from potstill.labeler.teachers.local import LocalTeacher

NearestOf = Callable[[Task, Sequence[Text]], Nearest | None]  # worked examples for each text, where they are chosen by similarity


@dataclass(frozen=True)
class QuestionsJob:
    """What a teacher is asked about texts, where to, and how."""

    task: Questionnaire
    store_path: pathlib.Path
    config: LabelConfig  # with a real mode
    nearest_of: NearestOf = lambda _task, _texts: None


def label_questions(
    job: QuestionsJob,
    texts: Sequence[Text],
    teacher: Teacher,
    progress: RunCallback | None = None,
    *,
    ends_at: float | None = None,
) -> LabelReport:
    """Draw every path of every question that the store lacks. After a kill at any moment, the same call resumes the run.

    Args:
        progress: called after every few paths, once they are stored.
        ends_at: moment on the clock `time.monotonic()`, in seconds, at which drawing ends; None: never.
    Returns:
        Counts over all questions; `run` is that of the last one.
    Raises:
        UserError: as :func:`potstill.labeler.run.label.label`.
        StoppedError: on KeyboardInterrupt; everything drawn so far is stored.
    """
    live = SeveralRuns(progress, len(job.task.asks()) * len(texts) * job.config.most_paths)
    asks = job.task.asks()
    live.expect(len(asks))
    reports: list[LabelReport] = []
    if isinstance(teacher, LocalTeacher) and shares_prompt(job.config):
        asks = asked_alone(job.task)
        if groups := asked_together(job.task):
            reports.append(_together(job, groups, texts, teacher, live, ends_at))
    for ask in asks:
        if reports and not reports[-1].in_time:
            break
        reports.append(_alone(job, ask, texts, teacher, live, ends_at))
    return replace(
        reports[-1],
        n_paths=sum(one.n_paths for one in reports),
        n_drawn=sum(one.n_drawn for one in reports),
        n_too_long=max(one.n_too_long for one in reports),
        seconds=sum(one.seconds for one in reports),
    )


def parts_of(task: Questionnaire, teacher: Teacher, config: LabelConfig) -> list[list[Fork]]:
    """Which questions are drawn together, over one decoding of each text; a question or tag that is asked alone stands by itself.

    Args:
        config: with a real mode.
    """
    if not (isinstance(teacher, LocalTeacher) and shares_prompt(config)):
        return [[Fork((ask,))] for ask in task.asks()]
    return [*asked_together(task), *([Fork((ask,))] for ask in asked_alone(task))]


def label_part(
    job: QuestionsJob,
    part: Sequence[Fork],
    texts: Sequence[Text],
    teacher: Teacher,
    progress: RunCallback | None = None,
    *,
    ends_at: float | None = None,
) -> LabelReport:
    """Draw the missing paths of some questions: one of the :func:`parts_of` a task. The rest is as for :func:`label_questions`."""
    asks = [ask for fork in part for ask in fork.asks]
    live = SeveralRuns(progress, len(asks) * len(texts) * job.config.most_paths)
    live.expect(len(asks))
    if isinstance(teacher, LocalTeacher) and shares_prompt(job.config) and asks[0] not in asked_alone(job.task):
        return _together(job, [part], texts, teacher, live, ends_at)
    return _alone(job, asks[0], texts, teacher, live, ends_at)


class SeveralRuns:
    """The progress of all questions together."""

    def __init__(self, on_progress: RunCallback | None, n_expected: int) -> None:
        """Args: n_expected, paths of all questions, before it is known how many are missing."""
        self._on_progress, self._n_expected = on_progress, n_expected
        self._runs: dict[str, LiveRun] = {}  # by the question's key
        self._n_asks = 0

    def expect(self, n_asks: int) -> None:
        """Say how many questions there will be."""
        self._n_asks = n_asks

    def watch(self, question: str) -> RunCallback:
        """What the run of one question calls."""

        def show(live: LiveRun) -> None:
            self._runs[question] = live
            if self._on_progress:
                self._on_progress(self)

        return show

    @property
    def n_paths(self) -> int:
        """Number of stored paths."""
        return sum(run.n_paths for run in self._runs.values())

    @property
    def total(self) -> int:
        """Upper bound of the paths when all questions are answered."""
        n_left = max(0, self._n_asks - len(self._runs))
        return sum(run.total for run in self._runs.values()) + n_left * (self._n_expected // max(1, self._n_asks))

    @property
    def n_drawn(self) -> int:
        """Number of paths drawn in this process."""
        return sum(run.n_drawn for run in self._runs.values())

    def snapshot(self) -> RunSnapshot:
        """The state now; label shares are named `question=label`, and of yes-or-no questions only the share of yes is told."""
        found = {key: run.snapshot() for key, run in self._runs.items()}
        shares: dict[str, float] = {}
        for key, one in found.items():
            yes_or_no = set(one.shares) == {YES, NO}
            shares |= {key: one.shares[YES]} if yes_or_no else {f"{key}={name}": share for name, share in one.shares.items()}
        seconds = max(one.seconds for one in found.values())
        speeds = [one.texts_per_s for one in found.values() if one.texts_per_s]
        left = [one.seconds_left for one in found.values() if one.seconds_left is not None]
        return RunSnapshot(
            paths=self.n_paths,
            of=self.total,
            seconds=seconds,
            texts_per_s=min(speeds, default=None),
            seconds_left=max(left, default=None),
            shares=shares,
            agreement=_mean([one.agreement for one in found.values()]),
            unreadable=_mean([one.unreadable for one in found.values()]),
            accuracy=_mean([one.accuracy for one in found.values()]),
            n_gold=max(one.n_gold for one in found.values()),
        )


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _alone(
    job: QuestionsJob, ask: Ask, texts: Sequence[Text], teacher: Teacher, live: SeveralRuns, ends_at: float | None
) -> LabelReport:
    """Ask one question as a task of its own."""
    return label(
        ask.task,
        texts,
        job.store_path,
        teacher,
        job.config,
        live.watch(ask.key),
        job.nearest_of(ask.task, texts),
        ends_at=ends_at,
        question=OneQuestion(ask, job.task.digest),
    )


def _together(
    job: QuestionsJob,
    groups: Sequence[Sequence[Fork]],
    texts: Sequence[Text],
    teacher: LocalTeacher,
    live: SeveralRuns,
    ends_at: float | None,
) -> LabelReport:
    """Ask the questions of each group over one decoding of each text."""
    began, in_time = time.monotonic(), True
    with LabelStore.create(job.store_path) as store:
        collectors = []
        for forks in groups:
            variants = shared_variants(job.task, forks, job.config)
            runs = [_begin(store, ask, place, variants, teacher, job) for place, fork in enumerate(forks) for ask in fork.asks]
            collectors.append((SharedCollector(store, runs, teacher, job.config, live.watch, ends_at), variants))
        store.add_texts(texts)
        for collector, _ in collectors:
            collector.start(texts)
        try:
            for collector, variants in collectors:
                for variant in variants:
                    collector.draw(variant)
        except OutOfTimeError:
            in_time = False
        except KeyboardInterrupt as stop:
            n_stored = sum(collector.n_stored() for collector, _ in collectors)  # the last ones may not be counted
            raise StoppedError(
                f"stopped; {n_stored} of {live.total} paths are in {job.store_path}; the same command draws the rest"
            ) from stop
    found = [collector for collector, _ in collectors]
    return LabelReport(
        found[-1].runs[-1],
        len(texts),
        sum(one.n_paths for one in found),
        sum(one.n_drawn for one in found),
        max(one.n_unlabelled for one in found),
        n_cut_texts(texts, job.task.input.max_chars),
        time.monotonic() - began,
        in_time,
    )


def _begin(store: LabelStore, ask: Ask, place: int, variants: Sequence[SharedVariant], teacher: Teacher, job: QuestionsJob) -> Run:
    """The run of one question or tag. Args: place, of its fork in the variants."""
    specs = [variant.specs[place] for variant in variants]
    settings = settings_of(ask.task, variants_digest(variants), specs, teacher.identity, job.config)
    settings = msgspec.structs.replace(settings, words=variants[0].forks[place].words_of(ask))
    return begin(store, OneQuestion(ask, job.task.digest).named(settings), job.config)
