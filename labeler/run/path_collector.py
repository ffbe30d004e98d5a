"""Drawing the missing paths of a run, question by question, each path stored before it is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from potstill.contract.errors import UserError
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.variants import PromptVariant
from potstill.labeler.run.adaptive import N_FIRST, N_PILOT, Ballot, habit, least_certain, undecided
from potstill.labeler.run.progress import RunProgress
from potstill.labeler.store.label_store import LabelStore, Run
from potstill.labeler.teacher import Enough, PathRequest, Teacher, TeacherPath, TooLong, never

RunCallback = Callable[[RunProgress], None]
T = TypeVar("T")
N_BLOCK = 32  # texts that a deterministic run asks together, from an empty context


class PathCollector:
    """One run in a store, and what it still lacks."""

    def __init__(
        self,
        store: LabelStore,
        run: Run,
        teacher: Teacher,
        config: LabelConfig,
        texts: Sequence[Text],
        asked: Sequence[PromptVariant],
    ) -> None:
        """Find out what is there."""
        self._store, self._run, self._teacher, self._config, self._texts = store, run, teacher, config, texts
        gold = {text.id: text.gold for text in texts if text.gold is not None}
        self.live = RunProgress(run.settings, gold, len(texts))
        self.progress: RunCallback = lambda _: None
        self.done: dict[str, set[int]] = {}
        ids = {text.id for text in texts}
        for path in store.paths(run):
            if path.text_id in ids:  # the store may hold texts that this command does not ask for
                self.done.setdefault(path.text_id, set()).add(path.path)
                self.live.found(path)
        self.too_long = store.too_long(run) & ids
        self._open: dict[str, int] = {}  # paths of the question in work that may still come, by text
        n_missing = sum(self._n_missing(text.id, question.paths) for question in asked for text in texts)
        self.live.total = self.live.n_paths + n_missing

    def draw(self, question: PromptVariant) -> None:
        """Every path of one question that is missing and wanted."""
        self._open = {text.id: self._n_missing(text.id, question.paths) for text in self._texts}
        chosen = self._chosen(question)
        for text_id in self._open.keys() - {text.id for text in chosen}:
            self._close(text_id)
        if question.mode == "direct" or not self._config.bound:
            self._ask(question, [PathRequest(text.id, question.prompt(text), question.paths) for text in chosen])
        else:
            self._draw_until_decided(question, chosen)
        for text_id in list(self._open):
            self._close(text_id)
        self.progress(self.live)

    def _chosen(self, question: PromptVariant) -> list[Text]:
        """The texts that this question is put to. It depends on the paths of earlier questions alone, so that a run that was
        stopped goes on with the same texts."""
        config, number, texts = self._config, question.number, self._texts
        if not config.deterministic:  # whose blocks hold the same texts whatever was found before
            texts = [text for text in texts if text.id not in self.too_long]
        if question.mode == "cot" and config.mode == "cascade":
            return least_certain(self._store, self._run, texts, config.uncertain, below=config.n_direct)
        if question.mode == "direct" and config.bound and number >= N_FIRST:
            return undecided(self._store, self._run, texts, config.bound, below=number)
        return list(texts)

    def _draw_until_decided(self, question: PromptVariant, texts: Sequence[Text]) -> None:
        """A pilot shows which label the teacher prefers; then every text is asked until it is decided."""
        first, rest = question.paths[:N_FIRST], question.paths[N_FIRST:]
        pilot = texts[:N_PILOT]
        self._ask(question, [PathRequest(text.id, question.prompt(text), first) for text in pilot])
        pilot_ids, settings = {text.id for text in pilot}, self._run.settings
        stored = [p for p in self._store.paths(self._run) if p.variant == question.number and p.path in question.paths]
        pilot_paths = [p for p in stored if p.text_id in pilot_ids and p.path in first]
        shift = habit(pilot_paths, settings) if pilot_paths else np.zeros(len(settings.labels))
        known, ballot = (Ballot(shift, settings.word_labels, settings.bound, question.paths) for _ in range(2))
        for path in stored:
            known.add(path.text_id, path.path, path.word_logprobs)
        for path in pilot_paths if settings.deterministic else stored:  # a fixed schedule knows what its first go knew
            ballot.add(path.text_id, path.path, path.word_logprobs)
        requests = []
        for text in texts:
            wanted, n_first = (rest, 1) if text.id in pilot_ids else (question.paths, N_FIRST)
            if wanted and not ballot.decided(text.id):
                requests.append(PathRequest(text.id, question.prompt(text), wanted, n_first=min(n_first, len(wanted))))
            else:
                self._close(text.id)
        self._ask(question, requests, known, ballot)

    def _ask(
        self, question: PromptVariant, requests: list[PathRequest], known: Ballot | None = None, ballot: Ballot | None = None
    ) -> None:
        """Put a question for many texts; in a deterministic run in blocks that are always asked whole.

        Args:
            known: the stored votes, where a text may be decided before all its paths are drawn.
            ballot: takes the votes as they come.
        """
        if not self._config.deterministic:
            missing = [self._missing(request) for request in requests]
            self._take(question, [request for request in missing if request.paths], ballot)
            return
        for start in range(0, len(requests), N_BLOCK):
            block = requests[start : start + N_BLOCK]
            if not all(self._is_complete(request, known) for request in block):
                self._take(question, block, ballot)

    def _is_complete(self, request: PathRequest, known: Ballot | None) -> bool:
        """Whether nothing is left to draw of it."""
        decided = known is not None and known.decided(request.text_id)
        return decided or request.text_id in self.too_long or not self._missing(request).paths

    def _missing(self, request: PathRequest) -> PathRequest:
        """The ask without the paths that are stored."""
        left = tuple(n for n in request.paths if n not in self.done.get(request.text_id, ()))
        return PathRequest(request.text_id, request.prompt, left, min(request.n_first, len(left)))

    def _n_missing(self, text_id: str, paths: Sequence[int]) -> int:
        """How many of the paths are not stored."""
        return len(set(paths) - self.done.get(text_id, set()))

    def _close(self, text_id: str) -> None:
        """The text gets no further path of the question in work."""
        self.live.total -= self._open.pop(text_id, 0)

    def _take(self, question: PromptVariant, requests: list[PathRequest], ballot: Ballot | None) -> None:
        """Ask the teacher and store what it says."""
        if not requests:
            return
        enough: Enough = ballot.decided if ballot else never
        results = self._teacher.answer(question.prefix, question.number, requests, question.spec, self._config.seed, enough)
        for batch in batched(_voting(results, ballot)):
            new = [r for r in batch if isinstance(r, TooLong) or r.path not in self.done.get(r.text_id, ())]
            self._store.add(self._run, new)
            for result in new:
                if isinstance(result, TooLong):
                    self.too_long.add(result.text_id)
                    self._close(result.text_id)
                    continue
                self.done.setdefault(result.text_id, set()).add(result.path)
                self._open[result.text_id] -= 1
                self.live.add(result)
            self.progress(self.live)


def _voting(results: Iterator[TeacherPath | TooLong], ballot: Ballot | None) -> Iterator[TeacherPath | TooLong]:
    """The results, each path's vote counted the moment it is drawn: the teacher asks next whether that was enough."""
    for result in results:
        if ballot and isinstance(result, TeacherPath):
            ballot.add(result.text_id, result.path, result.word_logprobs)
        yield result


def batched(results: Iterable[T], seconds: float = 0.5) -> Iterator[list[T]]:
    """The results in lists of about half a second's worth: one commit for each path would cost more than the path."""
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
            yield batch  # what was drawn before it stopped counts too
        raise
    if batch:
        yield batch
