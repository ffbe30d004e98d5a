"""Draw a run's missing paths, one prompt variant after the other, and store each path before it is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from potstill.contract.errors import UserError
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.variants import PromptVariant
from potstill.labeler.run.adaptive import N_FIRST, N_PILOT, Ballot, calibration_shift, least_certain, undecided
from potstill.labeler.run.progress import LiveRun, RunProgress
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.teacher import Enough, PathRequest, Teacher, TeacherPath, TooLong, never

N_BLOCK = 32  # texts that a deterministic run asks together, from an empty context
COMMIT_SECONDS = 0.5  # paths of that time share a commit: one commit per path would cost more than the path

RunCallback = Callable[[LiveRun], None]
T = TypeVar("T")


class OutOfTimeError(Exception):
    """The time for drawing is up; what was drawn is stored."""


class PathCollector:
    """One run in a store, and the paths that it still lacks."""

    def __init__(
        self,
        store: LabelStore,
        run: Run,
        teacher: Teacher,
        config: LabelConfig,
        texts: Sequence[Text],
        variants: Sequence[PromptVariant],
        on_progress: RunCallback | None = None,
        ends_at: float | None = None,
    ) -> None:
        """Read the stored paths.

        Args:
            on_progress: called after every commit and every variant.
            ends_at: moment on the clock `time.monotonic()`, in seconds, at which drawing ends; None: never.
        """
        self._clock = DrawingClock(ends_at)
        self._store, self._run, self._teacher, self._config, self._texts = store, run, teacher, config, texts
        self._on_progress: RunCallback = on_progress or (lambda _: None)
        gold = {text.id: text.gold for text in texts if text.gold is not None}
        self.progress = RunProgress(run.settings, gold, len(texts))
        self.done: dict[str, set[int]] = {}  # numbers of the stored paths, by text id
        ids = {text.id for text in texts}
        for path in store.paths(run):
            if path.text_id in ids:  # the store may hold texts that this command does not ask for
                self.done.setdefault(path.text_id, set()).add(path.path)
                self.progress.found(path)
        self.too_long = store.too_long(run) & ids
        self._open: dict[str, int] = {}  # paths of the current variant that may still come, by text id
        n_missing = sum(self._n_missing(text.id, variant.paths) for variant in variants for text in texts)
        self.progress.total = self.progress.n_paths + n_missing

    def draw(self, variant: PromptVariant) -> None:
        """Draw every path of one variant that is missing and wanted.

        Raises:
            UserError: if the teacher fails or the disk is full; paths drawn before are stored.
            OutOfTimeError: if the time is up before the variant is drawn.
        """
        self._open = {text.id: self._n_missing(text.id, variant.paths) for text in self._texts}
        chosen = self._chosen(variant)
        for text_id in self._open.keys() - {text.id for text in chosen}:
            self._close(text_id)
        if variant.mode == "direct" or not self._config.bound:
            self._request_paths(variant, [variant.request(text, variant.paths) for text in chosen])
        else:
            self._draw_until_decided(variant, chosen)
        for text_id in list(self._open):
            self._close(text_id)
        self._on_progress(self.progress)

    def _chosen(self, variant: PromptVariant) -> list[Text]:
        """The texts that this variant asks about.

        It depends only on the paths of earlier variants, so a resumed run continues with the same texts.
        """
        config, number, texts = self._config, variant.number, self._texts
        if not config.deterministic:  # a deterministic run keeps the same texts in a block whatever was found before
            texts = [text for text in texts if text.id not in self.too_long]
        if variant.mode == "cot" and config.mode == "cascade":
            return least_certain(self._store, self._run, texts, config.uncertain, below=config.n_direct)
        if variant.mode == "direct" and config.bound and number >= N_FIRST:
            return undecided(self._store, self._run, texts, config.bound, below=number)
        return list(texts)

    def _draw_until_decided(self, variant: PromptVariant, texts: Sequence[Text]) -> None:
        """Draw a pilot that shows which label the teacher prefers, then ask about every text until it is decided."""
        first, rest = variant.paths[:N_FIRST], variant.paths[N_FIRST:]
        pilot = texts[:N_PILOT]
        self._request_paths(variant, [variant.request(text, first) for text in pilot])
        pilot_ids, settings = {text.id for text in pilot}, self._run.settings
        stored = [p for p in self._store.paths(self._run) if p.variant == variant.number and p.path in variant.paths]
        pilot_paths = [p for p in stored if p.text_id in pilot_ids and p.path in first]
        shift = calibration_shift(pilot_paths, settings) if pilot_paths else np.zeros(len(settings.labels))
        known, ballot = (Ballot(shift, settings.word_labels, settings.bound, variant.paths) for _ in range(2))
        for path in stored:
            known.add(path.text_id, path.path, path.word_logprobs)
        for path in pilot_paths if settings.deterministic else stored:  # a fixed schedule starts from what its first try knew
            ballot.add(path.text_id, path.path, path.word_logprobs)
        requests = []
        for text in texts:
            wanted, n_first = (rest, 1) if text.id in pilot_ids else (variant.paths, N_FIRST)
            if wanted and not ballot.decided(text.id):
                requests.append(variant.request(text, wanted, n_first=min(n_first, len(wanted))))
            else:
                self._close(text.id)
        self._request_paths(variant, requests, known, ballot)

    def _request_paths(
        self, variant: PromptVariant, requests: list[PathRequest], known: Ballot | None = None, ballot: Ballot | None = None
    ) -> None:
        """Ask about many texts; a deterministic run does so in blocks that are always asked whole.

        Args:
            known: the stored votes, where a text may be decided before all its paths are drawn.
            ballot: collects the votes as they arrive.
        """
        if not self._config.deterministic:
            missing = [self._missing(request) for request in requests]
            self._draw_and_store(variant, [request for request in missing if request.paths], ballot)
            return
        blocks = [requests[start : start + N_BLOCK] for start in range(0, len(requests), N_BLOCK)]
        blocks = [block for block in blocks if not all(self._is_complete(request, known) for request in block)]
        at_once = getattr(self._teacher, "blocks_at_once", 1)  # more, where several teachers draw them
        for start in range(0, len(blocks), at_once):
            self._draw_and_store(variant, [request for block in blocks[start : start + at_once] for request in block], ballot)

    def _is_complete(self, request: PathRequest, known: Ballot | None) -> bool:
        """Whether nothing is left to draw for a request."""
        decided = known is not None and known.decided(request.text_id)
        return decided or request.text_id in self.too_long or not self._missing(request).paths

    def _missing(self, request: PathRequest) -> PathRequest:
        """The request without the paths that are stored."""
        left = tuple(n for n in request.paths if n not in self.done.get(request.text_id, ()))
        return replace(request, paths=left, n_first=min(request.n_first, len(left)))

    def _n_missing(self, text_id: str, paths: Sequence[int]) -> int:
        """The number of these paths that are not stored."""
        return len(set(paths) - self.done.get(text_id, set()))

    def _close(self, text_id: str) -> None:
        """Take the text's remaining paths of the current variant off the total: it gets no more."""
        self.progress.total -= self._open.pop(text_id, 0)

    def _draw_and_store(self, variant: PromptVariant, requests: list[PathRequest], ballot: Ballot | None) -> None:
        """Ask the teacher, and store its paths as they arrive."""
        if not requests:
            return
        enough: Enough = ballot.decided if ballot else never
        self._clock.start()
        results = self._teacher.answer(variant.prefix, variant.number, requests, variant.spec, self._config.seed, enough)
        for batch in batched(_voting(results, ballot), COMMIT_SECONDS):
            new = [r for r in batch if isinstance(r, TooLong) or r.path not in self.done.get(r.text_id, ())]
            self._store.add(self._run, new)
            for result in new:
                if isinstance(result, TooLong):
                    self.too_long.add(result.text_id)
                    self._close(result.text_id)
                    continue
                self.done.setdefault(result.text_id, set()).add(result.path)
                self._open[result.text_id] -= 1
                self.progress.add(result)
            self._on_progress(self.progress)
            self._clock.look()


class DrawingClock:
    """Ends drawing in time: when the next paths would probably arrive too late."""

    def __init__(self, ends_at: float | None) -> None:
        """Start with nothing known about how long paths take."""
        self._ends_at, self._last, self._first = ends_at, 0.0, True
        self._to_first, self._between = 0.0, 0.0  # longest seconds from a request to its first paths, and from paths to paths

    def start(self) -> None:
        """Before a request for paths; raises OutOfTimeError if none of them would come in time."""
        self._last, self._first = time.monotonic(), True
        self._check(self._to_first)

    def look(self) -> None:
        """After some paths have arrived; raises OutOfTimeError if the next ones would come too late."""
        now = time.monotonic()
        if self._first:
            self._to_first = max(self._to_first, now - self._last)
        else:
            self._between = max(self._between, now - self._last)
        self._last, self._first = now, False
        self._check(self._between)

    def _check(self, wait_s: float) -> None:
        """Raise OutOfTimeError if nothing more arrives in time."""
        if self._ends_at is not None and time.monotonic() + wait_s >= self._ends_at:
            raise OutOfTimeError


def batched(results: Iterable[T], seconds: float) -> Iterator[list[T]]:
    """Group results into lists that each took about the given time to arrive.

    Args:
        seconds: at least 0; 0 puts every result into a list of its own.
    Raises:
        UserError: as the results do, after a last list with what had arrived; KeyboardInterrupt likewise.
    """
    batch: list[T] = []
    began = time.monotonic()
    try:
        for result in results:
            batch.append(result)
            if time.monotonic() - began >= seconds:
                yield batch
                batch, began = [], time.monotonic()
    except (KeyboardInterrupt, UserError):
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _voting(results: Iterator[TeacherPath | TooLong], ballot: Ballot | None) -> Iterator[TeacherPath | TooLong]:
    """Pass the results on, counting each path's vote at once, before the teacher asks whether the text is decided."""
    for result in results:
        if ballot and isinstance(result, TeacherPath):
            ballot.add(result.text_id, result.path, result.word_logprobs)
        yield result
