"""The errors that a student made with the most confidence, and what its teacher had to say about those texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from potstill.contract.soft_label import SoftLabel
from potstill.contract.texts import Text
from potstill.trainer.report.answers import Judged

N_ERRORS = 20


@dataclass(frozen=True)
class Rationale:
    """One path of the teacher: the label it chose, and why."""

    label: str
    text: str


Rationales = Mapping[tuple[str, str | None], Sequence[Rationale]]  # by text and target


@dataclass(frozen=True)
class Mistake:
    """A text that was answered wrong."""

    text: Text
    gold: str
    answer: str
    confidence: float  # probability of the answer, 0 to 1
    gold_prob: float  # probability of the gold label, 0 to 1
    teacher: SoftLabel | None
    rationales: tuple[Rationale, ...]

    @property
    def blame(self) -> str:
        """Where the mistake comes from, as far as one can see: the teacher made it too, or it knew better."""
        if self.teacher is None or not sum(self.teacher.votes.values()):
            return ""
        if self.teacher.majority == self.gold:
            return "the teacher was right"
        return "the teacher said so too" if self.teacher.majority == self.answer else "the teacher was wrong in another way"


def most_confident(judged: Judged, rationales: Rationales, n: int = N_ERRORS) -> list[Mistake]:
    """At most ``n`` wrong answers by falling probability; equals by id."""
    wrong = [i for i in range(len(judged.texts)) if not judged.right[i]]
    wrong.sort(key=lambda i: (-judged.probs[i].max(), judged.texts[i].id))
    return [_mistake(judged, i, rationales) for i in wrong[:n]]


def _mistake(judged: Judged, i: int, rationales: Rationales) -> Mistake:
    """The text at place ``i``."""
    text = judged.texts[i]
    return Mistake(
        text=text,
        gold=judged.labels[judged.gold[i]],
        answer=judged.labels[judged.answers[i]],
        confidence=float(judged.probs[i].max()),
        gold_prob=float(judged.probs[i, judged.gold[i]]),
        teacher=judged.teacher[i],
        rationales=tuple(rationales.get((text.text, text.target or None), ())),
    )
