"""A trained student as the teacher of another: its calibrated answers in place of the soft labels, and on texts without any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from potstill.contract.checkpoint import read_student
from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel, entropy
from potstill.contract.task import Task
from potstill.contract.texts import Text, read_texts
from potstill.trainer.calibration.temperature import calibrated
from potstill.trainer.students import encoder as students
from potstill.trainer.students.encoder import Encoder


@dataclass(frozen=True)
class Guide:
    """A checkpoint held open."""

    encoder: Encoder
    temperature: float
    labels: list[str]


def open_guide(checkpoint: Path, task: Task) -> Guide:
    """The checkpoint, if it was trained for this task.

    Raises:
        FormatError: if the folder is no checkpoint, or is damaged.
        UserError: if it answers another task.
    """
    student = read_student(checkpoint)
    if student.labels != task.label_names or student.target != task.input.target:
        asked = f"{', '.join(task.label_names)}{' about a target' if task.input.target else ''}"
        found = f"{', '.join(student.labels)}{' about a target' if student.target else ''}"
        raise UserError(f"{checkpoint}: answers {found}, but task {task.name!r} asks for {asked}; name a student of this task")
    encoder = students.from_checkpoint(checkpoint, student.labels, max_tokens=student.max_tokens, pair=student.target)
    return Guide(encoder, student.temperature, student.labels)


def guided(guide: Guide, rows: Sequence[SoftLabel]) -> list[SoftLabel]:
    """The rows with the guide's probabilities, and a vote for its label."""
    features = guide.encoder.encode([(row.text, row.target) for row in rows])
    answers = calibrated(guide.encoder.logits(features).astype(np.float64), guide.temperature).tolist()
    return [
        msgspec.structs.replace(
            row,
            probs=dict(zip(guide.labels, probs, strict=True)),
            votes={name: int(p == max(probs)) for name, p in zip(guide.labels, probs, strict=True)},
            agreement=1.0,
            n_paths=1,
            entropy=entropy(probs),
            method="student",
        )
        for row, probs in zip(rows, answers, strict=True)
    ]


def unlabelled(path: Path, like: SoftLabel) -> list[SoftLabel]:
    """A file's texts as rows that no teacher has seen yet.

    Args:
        path: texts, with a target each where `like` has one.
        like: a row of the labelled texts.
    Raises:
        FormatError: as :func:`potstill.contract.texts.read_texts`.
    """
    texts = read_texts(path, target=like.target is not None).texts
    return [_blank(text, like) for text in texts]


def _blank(text: Text, like: SoftLabel) -> SoftLabel:
    """A row that says nothing about the text."""
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
