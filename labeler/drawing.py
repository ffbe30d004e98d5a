"""Drawing the missing paths of a run, question by question, each path stored before it is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from contract.errors import UserError
from contract.texts import Text
from labeler.adaptive import N_FIRST, N_PILOT, Ballot
from labeler.config import LabelConfig
from labeler.live import Live
from labeler.paths import Ask, TeacherPath, TooLong
from labeler.questions import Question
from labeler.standing import habit, least_certain, undecided
from labeler.store import LabelStore, Run
from labeler.teacher import Enough, Teacher, never

Progress = Callable[[Live], None]
T = TypeVar("T")
N_BLOCK = 32  # texts that a deterministic run asks together, from an empty context


class Drawing:
    """One run in a store, and what it still lacks."""

    def __init__(self, store: LabelStore, run: Run, teacher: Teacher, config: LabelConfig, live: Live) -> None:
        """Find out what is there."""
        self._store, self._run, self._teacher, self._config, self.live = store, run, teacher, config, live
        self.done: dict[str, set[int]] = {}
        for path in store.paths(run):
            self.done.setdefault(path.text_id, set()).add(path.path)
            live.found(path)
        self.too_long = store.too_long(run)
        self.progress: Progress = lambda _: None

    def draw(self, question: Question, texts: Sequence[Text]) -> None:
        """Every path of one question that is missing and wanted."""
        chosen = [text for text in self._chosen(question, texts) if text.id not in self.too_long]
        self.live.total -= (len(texts) - len(chosen)) * len(question.paths)
        if question.mode == "direct" or not self._config.bound:
            self._ask(question, {text: Ask(text.id, question.prompt(text), question.paths) for text in chosen}, never)
        else:
            self._draw_until_decided(question, chosen)

    def _chosen(self, question: Question, texts: Sequence[Text]) -> Sequence[Text]:
        """The texts that this question is put to. It depends on the paths of earlier questions alone, so that a run that was
        stopped goes on with the same texts."""
        config, number = self._config, question.number
        if question.mode == "cot" and config.mode == "cascade":
            return least_certain(self._store, self._run, texts, config.uncertain, below=config.n_direct)
        if question.mode == "direct" and config.bound and number >= N_FIRST:
            return undecided(self._store, self._run, texts, config.bound, below=number)
        return texts

    def _draw_until_decided(self, question: Question, texts: Sequence[Text]) -> None:
        """A pilot shows which label the teacher prefers; then every text is asked until it is decided."""
        first, rest = question.paths[:N_FIRST], question.paths[N_FIRST:]
        pilot = texts[:N_PILOT]
        self._ask(question, {text: Ask(text.id, question.prompt(text), first) for text in pilot}, never)
        pilot_ids = {text.id for text in pilot}
        stored = [p for p in self._store.paths(self._run) if p.variant == question.number]
        pilot_paths = [p for p in stored if p.text_id in pilot_ids and p.path in first]
        ballot = Ballot(habit(pilot_paths, self._run.settings), self._run.settings.word_labels, self._config.bound)
        for path in pilot_paths if self._config.deterministic else stored:
            ballot.add(path.text_id, path.word_logprobs)
        asks = {}
        for text in texts:
            wanted = rest if text.id in pilot_ids else question.paths
            if wanted and not ballot.decided(text.id):
                asks[text] = Ask(text.id, question.prompt(text), wanted, n_first=min(N_FIRST, len(wanted)))
            else:
                self.live.total -= len(wanted)
        self._ask(question, asks, ballot.decided, ballot)

    def _ask(self, question: Question, asks: dict[Text, Ask], enough: Enough, ballot: Ballot | None = None) -> None:
        """Put a question for many texts; in a deterministic run in blocks that are always asked whole."""
        if not self._config.deterministic:
            missing = [self._missing(ask) for ask in asks.values()]
            self._take(question, [ask for ask in missing if ask.paths], enough, ballot)
            return
        whole = list(asks.values())
        for start in range(0, len(whole), N_BLOCK):
            block = whole[start : start + N_BLOCK]
            if any(self._missing(ask).paths for ask in block):
                self._take(question, block, enough, ballot)

    def _missing(self, ask: Ask) -> Ask:
        """The ask without the paths that are stored."""
        left = tuple(n for n in ask.paths if n not in self.done.get(ask.text_id, ()))
        return Ask(ask.text_id, ask.prompt, left, min(ask.n_first, len(left)))

    def _take(self, question: Question, asks: list[Ask], enough: Enough, ballot: Ballot | None) -> None:
        """Ask the teacher and store what it says."""
        n_open = {ask.text_id: len(ask.paths) for ask in asks}
        results = (
            self._teacher.answer(question.prefix, question.number, asks, question.reading, self._config.seed, enough)
            if asks
            else iter(())
        )
        for batch in batched(_voting(results, ballot)):
            new = [r for r in batch if isinstance(r, TooLong) or r.path not in self.done.get(r.text_id, ())]
            self._store.add(self._run, new)
            for result in new:
                if isinstance(result, TooLong):
                    self.too_long.add(result.text_id)
                    self.live.total -= n_open.get(result.text_id, 0)
                    continue
                self.done.setdefault(result.text_id, set()).add(result.path)
                self.live.add(result)
            self.progress(self.live)
        self.live.total -= sum(len(self._missing(ask).paths) for ask in asks if ask.text_id not in self.too_long)
        self.progress(self.live)


def _voting(results: Iterator[TeacherPath | TooLong], ballot: Ballot | None) -> Iterator[TeacherPath | TooLong]:
    """The results, each path's vote counted the moment it is drawn: the teacher asks next whether that was enough."""
    for result in results:
        if ballot and isinstance(result, TeacherPath):
            ballot.add(result.text_id, result.word_logprobs)
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
