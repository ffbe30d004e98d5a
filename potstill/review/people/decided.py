"""The decisions of a journal that count: those that nobody undid, of each person and question the last one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from potstill.labeler.store.people import HumanDecision, Mode

AT_RANDOM = ("random", "overlap")  # modes whose texts are a random sample, so that scores on them are honest
RESOLUTION: Mode = "resolution"


class Decided:
    """Everything that people have decided, by text; rows are taken in as they come."""

    def __init__(self, decisions: Iterable[HumanDecision] = ()) -> None:
        """Args: decisions in the order of their numbers."""
        self.last_number = 0
        self._rows: dict[str, list[HumanDecision]] = defaultdict(list)  # by text
        self._undone: set[str] = set()  # entries
        self._entries: dict[str, list[HumanDecision]] = defaultdict(list)  # of each person, the first row of each entry
        self._any: dict[str, set[str]] = defaultdict(set)  # texts that a person has decided about
        self._at_random: dict[str, set[str]] = defaultdict(set)  # the same, found at random
        self.take(decisions)

    def take(self, decisions: Iterable[HumanDecision]) -> None:
        """Take in rows with higher numbers."""
        for row in decisions:
            self.last_number = max(self.last_number, row.number)
            if row.undoes is not None:
                self._undone.add(row.undoes)
                self._forget(row.text_id, row.person)
                continue
            self._rows[row.text_id].append(row)
            entries = self._entries[row.person]
            if row.mode != RESOLUTION and not (entries and entries[-1].entry == row.entry):
                entries.append(row)
            self._note(row)

    def _note(self, row: HumanDecision) -> None:
        """Count a row's text as decided by its person."""
        if row.mode != RESOLUTION:
            self._any[row.person].add(row.text_id)
            if row.mode in AT_RANDOM:
                self._at_random[row.person].add(row.text_id)

    def _forget(self, text_id: str, person: str) -> None:
        """Count anew what a person has decided about a text."""
        self._any[person].discard(text_id)
        self._at_random[person].discard(text_id)
        for row in self.counting(text_id):
            if row.person == person:
                self._note(row)

    def counting(self, text_id: str) -> list[HumanDecision]:
        """The rows about a text that nobody undid, oldest first."""
        return [row for row in self._rows.get(text_id, ()) if row.entry not in self._undone]

    def latest(self, text_id: str, question: str) -> dict[str, HumanDecision]:
        """By person, the last decision about a question of a text; skipped ones too."""
        rows = self.counting(text_id)
        return {row.person: row for row in rows if row.question == question and row.mode != RESOLUTION}

    def resolution(self, text_id: str, question: str) -> HumanDecision | None:
        """How a disagreement about a question of a text was settled, if it was."""
        found = [row for row in self.counting(text_id) if row.question == question and row.mode == RESOLUTION]
        return found[-1] if found else None

    def own(self, text_id: str, person: str) -> dict[str, HumanDecision]:
        """By question, the last decision of one person about a text."""
        return {row.question: row for row in self.counting(text_id) if row.person == person and row.mode != RESOLUTION}

    def texts_of(self, person: str, *, at_random: bool = False) -> set[str]:
        """Ids of the texts that a person has decided about. Args: at_random, only those that were found at random."""
        return (self._at_random if at_random else self._any)[person]

    def texts(self) -> list[str]:
        """Ids of all texts with a decision that counts, in the order in which they were first decided."""
        return [text_id for text_id in self._rows if self.counting(text_id)]

    def people(self) -> list[str]:
        """Everybody who has decided anything but resolutions, in the order of their first decisions."""
        return [person for person, entries in self._entries.items() if entries]

    def last_entry(self, person: str) -> HumanDecision | None:
        """A row of the last entry of a person that still counts; None if there is none to undo."""
        return next((row for row in reversed(self._entries[person]) if row.entry not in self._undone), None)

    def is_at_random(self, text_id: str, people: Iterable[str] | None = None) -> bool:
        """Whether somebody found the text at random. Args: people, those who count; None: everybody."""
        wanted = None if people is None else set(people)
        rows = self.counting(text_id)
        return any(row.mode in AT_RANDOM for row in rows if wanted is None or row.person in wanted)
