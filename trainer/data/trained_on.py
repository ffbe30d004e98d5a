"""The soft labels that a finished student was taught, found again in their file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from potstill.contract.checkpoint import VALIDATION_FILE, Student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import digest
from potstill.contract.soft_label import SoftLabel, read_soft_labels
from potstill.trainer.data.selection import was_read


@dataclass(frozen=True)
class Taught:
    """The rows that a student was trained on and those that it was judged by, in file order."""

    training: list[SoftLabel]
    validation: list[SoftLabel]


def read_taught(path: Path, checkpoint: Path, student: Student) -> Taught:
    """The very rows behind a checkpoint.

    The checkpoint holds its validation rows. Of the others it counts how many were trained on: those with the highest agreement,
    whatever the threshold was.

    Raises:
        FormatError: if the file is missing or malformed.
        UserError: if it is not the file that the student was trained on.
    """
    rows = read_soft_labels(path, labels=student.labels)
    found = digest.of_file(path)
    if found != student.soft_labels_digest:
        raise UserError(
            f"{path}: is not the file that the student was trained on (SHA-256 {found[:12]}…, its student.json has "
            f"{student.soft_labels_digest[:12]}…); name that file, or train a student on this one"
        )
    validation = read_soft_labels(checkpoint / VALIDATION_FILE, labels=student.labels)
    held_out = {row.text for row in validation}
    rest = [row for row in rows if row.text not in held_out and was_read(row)]
    if len(rest) < student.n_train:
        problem = (
            f"leaves {len(rest)} rows of {path} to train on, but student.json has {student.n_train}; train the checkpoint again"
        )
        raise FormatError(checkpoint / VALIDATION_FILE, "", problem)
    surest = sorted(range(len(rest)), key=lambda i: -rest[i].agreement)[: student.n_train]
    return Taught([rest[i] for i in sorted(surest)], validation)
