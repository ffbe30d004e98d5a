"""The task as it is now beside the one that was labelled: what waits to be asked again, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from potstill.contract.errors import UserError
from potstill.contract.questions.questionnaire import AnyTask
from potstill.labeler.store.database import Run
from potstill.review.corpus.texts import Corpus
from potstill.review.people.decided import Decided
from potstill.review.steering.changed_prompts import ChangedPrompts, changed_prompts
from potstill.review.steering.job import Advance, BackgroundJob
from potstill.review.steering.what_moved import Gold, WhatMoved, gold_labels, what_moved

# Takes the run, the task that it asked, the task now, the prompts that differ, and what to tell the progress.
AskAgain = Callable[[Run, AnyTask, AnyTask, ChangedPrompts, Advance], None]
Propose = Callable[[Corpus, AnyTask, Gold], list["ProposedTerm"]]
Reread = Callable[[AnyTask], Corpus]  # the texts with what the newest run says


@dataclass(frozen=True)
class ProposedTerm:
    """A term that occurs in texts that the teacher gets wrong, as a candidate for the task's knowledge."""

    term: str
    n: int  # texts with gold that hold it
    n_wrong: int  # of these: answered wrong by the teacher
    mixup: str  # the most frequent mistake: "bearish taken for bullish"
    stands_out: bool  # beyond chance


@dataclass(frozen=True)
class SteeringTools:
    """What the pages leave to others: asking the teacher, reading the store, finding terms."""

    ask_again: AskAgain
    reread: Reread
    propose: Propose


@dataclass(frozen=True)
class Relabelled:
    """What a teacher has answered to a changed task."""

    corpus: Corpus
    task: AnyTask
    moved: WhatMoved


class Steering:
    """The versions of the task, and the work of asking about their difference."""

    def __init__(self, task: AnyTask, corpus: Corpus, tools: SteeringTools) -> None:
        """Args: task, as its file says now; corpus, what the store's run says."""
        self.task = task
        is_same = task.digest == corpus.run.settings.task_digest
        self._labelled: AnyTask | None = task if is_same else None  # None: not known any more
        self._tools = tools
        self._refused: set[str] = set()  # terms, until the process ends
        self._proposed: tuple[tuple[str, int, int], list[ProposedTerm]] | None = None  # with what they follow from
        self._pending: tuple[str, ChangedPrompts] | None = None  # with the digest of the task
        self.job: BackgroundJob[Relabelled] | None = None
        self.moved: WhatMoved | None = None  # by the last change

    @property
    def can_ask(self) -> bool:
        """Whether the change can be asked about from here: the task that was labelled is known, and nothing is going on."""
        return self._labelled is not None and (self.job is None or self.job.state != "running")

    def take_task(self, task: AnyTask) -> None:
        """Note that the task's file has changed."""
        self.task = task

    def pending(self, corpus: Corpus) -> ChangedPrompts:
        """The texts whose prompts differ from those that the teacher has answered; looked up once for each version."""
        if self._labelled is None:
            return ChangedPrompts(list(corpus.texts), "the task's file is not the one that was labelled")
        digest = self.task.digest
        if self._pending is None or self._pending[0] != digest:
            self._pending = (digest, changed_prompts(self._labelled, self.task, corpus.texts))
        return self._pending[1]

    def proposals(self, corpus: Corpus, decided: Decided) -> list[ProposedTerm]:
        """Terms of texts that the teacher gets wrong, without those that were refused; none before people have labelled some."""
        key = self.task.digest, decided.last_number, corpus.run.number
        if self._proposed is None or self._proposed[0] != key:
            gold = gold_labels(corpus, decided, self.task)
            self._proposed = key, self._tools.propose(corpus, self.task, gold)
        return [one for one in self._proposed[1] if one.term not in self._refused]

    def refuse(self, term: str) -> None:
        """Propose a term no more."""
        self._refused.add(term)

    def begin(self, corpus: Corpus, decided: Decided) -> None:
        """Begin to ask the teacher.

        Raises:
            UserError: if it is being asked already, nothing has changed, or the task that was labelled is not known.
        """
        labelled, task, prompts = self._labelled, self.task, self.pending(corpus)
        if self.job is not None and self.job.state == "running":
            raise UserError("the teacher is being asked already; wait until it has answered")
        if labelled is None:
            raise UserError("the task's file is not the one that was labelled; label the texts anew with: potstill label --new-run")
        if not prompts.ids:
            raise UserError("no prompt has changed, so there is nothing to ask")
        gold = gold_labels(corpus, decided, task)

        def work(advance: Advance) -> Relabelled:
            self._tools.ask_again(corpus.run, labelled, task, prompts, advance)
            after = self._tools.reread(task)
            return Relabelled(after, task, what_moved(corpus, after, gold, prompts.ids))

        self.job = BackgroundJob(work)
        self.job.start()

    def finished(self) -> Corpus | None:
        """What the teacher says now, once after it has answered; None at all other times."""
        if self.job is None or self.job.state != "done" or self.job.result is None:
            return None
        result, self.job = self.job.result, None
        self._labelled, self._pending, self.moved = result.task, None, result.moved
        return result.corpus
