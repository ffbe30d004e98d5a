"""What the teacher says about gold texts, looked up in a soft-label file. Axes: N texts, S labels of the student."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.checkpoint import Student
from potstill.contract.errors import UserError
from potstill.contract.soft_label import read_soft_labels
from potstill.trainer.data.selection import was_read
from potstill.trainer.evaluation.gold import Gold


@dataclass(frozen=True)
class TeacherAnswers:
    """The gold texts that the teacher labelled, and its distributions over the student's labels."""

    gold: Gold  # [N], with a note on the texts that the file lacks
    probs: NDArray[np.float64]  # [N, S]
    n_unread: int  # of these texts, those that no path could label; their distribution is the teacher's answer all the same


def read_teacher(path: Path, student: Student, gold: Gold) -> TeacherAnswers:
    """The teacher's answers, matched by text and target; where a file holds a text twice, the first row counts.

    Raises:
        FormatError: if the file is malformed, or of other labels.
        UserError: if it holds none of the texts.
    """
    rows = {(row.text, row.target or None): row for row in reversed(read_soft_labels(path, labels=student.labels))}
    places = [i for i, text in enumerate(gold.texts) if (text.text, text.target) in rows]
    if not places:
        raise UserError(
            f"{path}: holds none of the {len(gold.texts)} gold texts; label them with: potstill label --gold {gold.path} "
            "(it writes gold_labels.parquet)"
        )
    if n_lacking := len(gold.texts) - len(places):
        verb = "text is" if n_lacking == 1 else "texts are"
        gold = gold.only(places, f"{n_lacking} of {len(gold.texts)} gold {verb} scored for no system: {path} lacks their labels")
    answered = [rows[text.text, text.target] for text in gold.texts]
    probs = np.array([[row.probs[name] for name in student.labels] for row in answered])
    return TeacherAnswers(gold, probs, sum(not was_read(row) for row in answered))
