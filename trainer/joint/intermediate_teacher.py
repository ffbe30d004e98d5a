"""A trained student of several questions as the teacher of another: its answers replace the soft labels of all questions.

Axes: N texts, C outputs of all questions side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.checkpoint import read_student
from potstill.contract.errors import UserError
from potstill.contract.questions.head import Head, ranges
from potstill.contract.questions.probabilities import decided, joint_probs
from potstill.contract.questions.questionnaire import Questionnaire
from potstill.contract.questions.soft_answers import QuestionLabel, SoftAnswers
from potstill.contract.soft_label import entropy
from potstill.contract.texts import read_texts
from potstill.trainer.data.selection import is_validation
from potstill.trainer.students import encoder as students
from potstill.trainer.students.encoder import Encoder


@dataclass(frozen=True)
class AnsweringStudent:
    """A student of several questions, loaded from its checkpoint."""

    encoder: Encoder
    heads: list[Head]

    def probs(self, texts: Sequence[tuple[str, str | None]]) -> NDArray[np.float64]:
        """float64 [N, C]: calibrated answers to (text, target) pairs."""
        return joint_probs(self.heads, self.encoder.logits(self.encoder.encode(texts)))


def open_answering_student(checkpoint: Path, task: Questionnaire) -> AnsweringStudent:
    """Load a checkpoint that was trained for these questions.

    Raises:
        FormatError: if the folder is not a checkpoint, or is damaged.
        UserError: if it answers other questions.
    """
    student = read_student(checkpoint)
    asked = [(question.name, question.kind, question.label_names) for question in task.questions]
    found = [(head.name, head.kind, head.labels) for head in student.heads or []]
    if student.heads is None or found != asked or student.target != task.input.target:
        answers = ", ".join(f"{head.name} ({head.kind})" for head in student.heads or []) or ", ".join(student.labels)
        wanted = ", ".join(f"{name} ({kind})" for name, kind, _ in asked)
        about = " about a target" if task.input.target else ""
        raise UserError(
            f"{checkpoint}: answers {answers}, but task {task.name!r} asks for {wanted}{about}; name a student of this task, with "
            "the same labels in the same order"
        )
    encoder = students.from_checkpoint(checkpoint, student.labels, max_tokens=student.max_tokens, pair=student.target)
    return AnsweringStudent(encoder, student.heads)


def answered(student: AnsweringStudent, rows: Sequence[SoftAnswers]) -> list[SoftAnswers]:
    """The rows with the student's probabilities for every question, and one vote for what it says."""
    if not rows:
        return []
    probs = student.probs([(row.text, row.target) for row in rows])
    made: list[dict[str, QuestionLabel | None]] = [{} for _ in rows]
    for head, own in zip(student.heads, ranges(student.heads), strict=True):
        said = decided(head, probs[:, own])
        for answers, shares, chosen in zip(made, probs[:, own].tolist(), said.tolist(), strict=True):
            answers[head.name] = _label(head, shares, chosen)
    return [msgspec.structs.replace(row, answers=answers) for row, answers in zip(rows, made, strict=True)]


def pool_rows(pool: Path, known: Sequence[SoftAnswers], validation_share: float) -> list[SoftAnswers]:
    """The unlabelled texts of a file as rows without answers; without known texts, and those on the validation side of the split.

    Args:
        known: the labelled rows, at least one; a text of the pool has a target if they have.
        validation_share: above 0 and below 1.
    Raises:
        FormatError: if the file is missing or malformed.
    """
    like, seen = known[0], {(row.text, row.target) for row in known}
    texts = read_texts(pool, target=like.target is not None).texts
    return [
        msgspec.structs.replace(like, id=text.id, text=text.text, target=text.target, answers={}, gold=None)
        for text in texts
        if (text.text, text.target) not in seen and not is_validation(text.text, validation_share)
    ]


def _label(head: Head, probs: list[float], chosen: list[int]) -> QuestionLabel:
    """The answer to one question. Args: chosen, the label's index; of tags 0 or 1 for each."""
    votes = chosen if not head.is_softmax else [int(place == chosen[0]) for place in range(len(probs))]
    nats = entropy(probs) if head.is_softmax else sum(entropy([p, 1 - p]) for p in probs)
    return QuestionLabel(
        probs=dict(zip(head.labels, probs, strict=True)),
        votes=dict(zip(head.labels, votes, strict=True)),
        agreement=1.0,
        n_paths=1,
        entropy=nats,
        label_mass=1.0,
        method="student",
    )
