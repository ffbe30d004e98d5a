"""Gold texts with the student's answers, the teacher's soft labels, and the most confident mistakes.

Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.contract.soft_label import SoftLabel
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.trainer.config import ReportConfig


@dataclass(frozen=True)
class AnsweredTexts:
    """Gold texts with the student's answers, and with the teacher's soft labels where there are any."""

    task: Task
    texts: list[Text]  # [N], at least one
    gold: NDArray[np.int64]  # [N], classes of the gold labels
    probs: NDArray[np.float64]  # [N, C], the student's; rows sum to 1
    teacher: list[SoftLabel | None]  # [N]

    @property
    def labels(self) -> list[str]:
        """The labels, in output order."""
        return self.task.label_names

    @cached_property
    def answers(self) -> NDArray[np.int64]:
        """int64 [N]: the student's most probable class."""
        return np.asarray(self.probs.argmax(axis=1), dtype=np.int64)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """bool [N]: whether the answer is the gold label."""
        return np.asarray(self.answers == self.gold)

    @cached_property
    def has_soft_label(self) -> NDArray[np.bool_]:
        """bool [N]: whether the text has a soft label."""
        return np.array([row is not None for row in self.teacher], dtype=bool)

    def teacher_probs(self) -> NDArray[np.float64]:
        """float64 [M, C]: the soft labels of the M texts that have one."""
        return np.array([[row.probs[name] for name in self.labels] for row in self.teacher if row], dtype=np.float64)


def match_soft_labels(texts: Sequence[Text], rows: Iterable[SoftLabel]) -> list[SoftLabel | None]:
    """The soft label of each text, or None, matched by text and target whatever the ids."""
    known = {(row.text, row.target or None): row for row in rows}
    return [known.get((text.text, text.target or None)) for text in texts]


@dataclass(frozen=True)
class Rationale:
    """The reasoning of one of the teacher's paths, and its label."""

    label: str
    text: str


TeacherVerdict = Literal["", "the teacher was right", "the teacher made the same mistake", "the teacher was wrong in another way"]
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
    def teacher_verdict(self) -> TeacherVerdict:
        """Whether the teacher made the same mistake; empty if it has no label for the text."""
        if self.teacher is None or not sum(self.teacher.votes.values()):
            return ""
        if self.teacher.majority == self.gold:
            return "the teacher was right"
        return (
            "the teacher made the same mistake" if self.teacher.majority == self.answer else "the teacher was wrong in another way"
        )


def most_confident_mistakes(answered: AnsweredTexts, rationales: Rationales, n: int = ReportConfig.n_mistakes) -> list[Mistake]:
    """At most ``n`` wrong answers, by falling probability; equal ones by id."""
    wrong = [i for i in range(len(answered.texts)) if not answered.right[i]]
    wrong.sort(key=lambda i: (-answered.probs[i].max(), answered.texts[i].id))
    return [_mistake(answered, i, rationales) for i in wrong[:n]]


def _mistake(answered: AnsweredTexts, i: int, rationales: Rationales) -> Mistake:
    """The mistake at index ``i``."""
    text = answered.texts[i]
    return Mistake(
        text=text,
        gold=answered.labels[answered.gold[i]],
        answer=answered.labels[answered.answers[i]],
        confidence=float(answered.probs[i].max()),
        gold_prob=float(answered.probs[i, answered.gold[i]]),
        teacher=answered.teacher[i],
        rationales=tuple(rationales.get((text.text, text.target or None), ())),
    )
