"""A trained student as the teacher of another: its answers replace the soft labels, and label texts that have none.

The field calls it a teacher assistant (Mirzadeh et al. 2020, arXiv:1902.03393). Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from potstill.contract.checkpoint import read_student
from potstill.contract.errors import UserError
from potstill.contract.questions.questionnaire import AnyTask
from potstill.contract.soft_label import SoftLabel, entropy
from potstill.contract.texts import Text, read_texts
from potstill.trainer.calibration.temperature import calibrated_probs
from potstill.trainer.students import encoder as students
from potstill.trainer.students.encoder import Encoder


@dataclass(frozen=True)
class IntermediateTeacher:
    """A student loaded from its checkpoint."""

    encoder: Encoder
    temperature: float  # above 0
    labels: list[str]  # [C], in output order


def open_intermediate_teacher(checkpoint: Path, task: AnyTask) -> IntermediateTeacher:
    """Load a checkpoint that was trained for this task.

    Raises:
        FormatError: if the folder is not a checkpoint, or is damaged.
        UserError: if it was trained for another task.
    """
    student = read_student(checkpoint)
    if student.labels != task.label_names or student.target != task.input.target:
        asked = f"{', '.join(task.label_names)}{' about a target' if task.input.target else ''}"
        found = f"{', '.join(student.labels)}{' about a target' if student.target else ''}"
        raise UserError(f"{checkpoint}: answers {found}, but task {task.name!r} asks for {asked}; name a student of this task")
    encoder = students.from_checkpoint(checkpoint, student.labels, max_tokens=student.max_tokens, pair=student.target)
    return IntermediateTeacher(encoder, student.temperature, student.labels)


def relabelled(teacher: IntermediateTeacher, rows: Sequence[SoftLabel]) -> list[SoftLabel]:
    """The rows with the teacher's probabilities, and one vote for its label."""
    answers = calibrated_probs(teacher.encoder, [(row.text, row.target) for row in rows], teacher.temperature).tolist()
    return [
        msgspec.structs.replace(
            row,
            probs=dict(zip(teacher.labels, probs, strict=True)),
            votes={name: int(p == max(probs)) for name, p in zip(teacher.labels, probs, strict=True)},
            agreement=1.0,
            n_paths=1,
            entropy=entropy(probs),
            method="student",
        )
        for row, probs in zip(rows, answers, strict=True)
    ]


def unlabelled_rows(path: Path, like: SoftLabel) -> list[SoftLabel]:
    """Read a file of texts as rows without labels.

    Args:
        path: texts; each has a target if `like` has one.
        like: any row of the labelled texts.
    Raises:
        FormatError: if the file is missing or malformed.
    """
    texts = read_texts(path, target=like.target is not None).texts
    return [_blank(text, like) for text in texts]


def _blank(text: Text, like: SoftLabel) -> SoftLabel:
    """A row with even shares and no votes."""
    probs = dict.fromkeys(like.probs, 1 / len(like.probs))
    return msgspec.structs.replace(
        like,
        id=text.id,
        text=text.text,
        target=text.target,
        gold=None,
        probs=probs,
        votes=dict.fromkeys(like.votes, 0),
        agreement=0.0,
        n_paths=0,
        entropy=entropy(list(probs.values())),
    )
