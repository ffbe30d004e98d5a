"""What all pages work on: the texts, the journal, each person's queue, and who is there."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from potstill.labeler.store.people import HumanDecision, Journal, Mode
from potstill.review.corpus.texts import Corpus
from potstill.review.people.decided import Decided
from potstill.review.queue.dealing import Place, next_place
from potstill.review.steering.changes import Steering


class Desk:
    """The open journal with what it says, beside the texts. Everything is used by one thread."""

    def __init__(
        self,
        task_file: Path,
        corpus: Corpus,
        journal: Journal,
        queues: Mapping[str, Sequence[Place]],
        steering: Steering,
    ) -> None:
        """Args: queues, of each person the texts in order."""
        self.task_file, self.corpus, self.journal, self.steering = task_file, corpus, journal, steering
        self._queues = queues
        self._modes = {person: {place.text_id: place.mode for place in places} for person, places in queues.items()}
        self.decided = Decided(journal.since())

    @property
    def people(self) -> list[str]:
        """Who was named at the start."""
        return list(self._queues)

    def refresh(self) -> None:
        """Take in what other processes have added to the journal, and what the teacher has answered since."""
        self.decided.take(self.journal.since(self.decided.last_number))
        self.corpus = self.steering.finished() or self.corpus

    def next_place(self, person: str) -> Place | None:
        """The text whose turn it is."""
        return next_place(self._queues.get(person, ()), self.decided, person)

    def mode_of(self, person: str, text_id: str, stated: str) -> Mode:
        """How a person came to a text: as stated where the queue has it so, else by search."""
        own = self._modes.get(person, {}).get(text_id)
        return own if own is not None and own == stated else "search"

    def decide(self, decisions: Sequence[HumanDecision]) -> None:
        """Write decisions to disk, then count them; raises UserError as :meth:`Journal.add`."""
        self.journal.add(decisions)
        self.refresh()

    def undo(self, person: str) -> HumanDecision | None:
        """Undo the person's last entry; returns a row of it, None if there is none."""
        last = self.decided.last_entry(person)
        if last is not None:
            row = HumanDecision(entry=new_entry(), text_id=last.text_id, person=person, mode=last.mode, undoes=last.entry)
            self.decide([row])
        return last


def new_entry() -> str:
    """A name for what is sent at once."""
    return secrets.token_urlsafe(12)
