"""The soft labels of a training run: read and checked, split into two sides, and found again behind a finished student."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from potstill.contract.checkpoint import GOLD_ROWS_FILE, VALIDATION_FILE, Student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import digest
from potstill.contract.soft_label import SoftLabel, read_soft_labels
from potstill.contract.task import Task
from potstill.trainer.data import selection as select
from potstill.trainer.data.selection import Selection


@dataclass(frozen=True)
class TrainingRows:
    """The rows that a student is trained on, and those that are held out."""

    training: list[SoftLabel]
    validation: list[SoftLabel]
    with_gold: list[SoftLabel] = field(default_factory=list)  # of all training texts, kept or not: those with a gold label


def read_rows(path: Path, task: Task) -> list[SoftLabel]:
    """Read a file of soft labels that one teacher made for this version of the task.

    Raises:
        FormatError: if the file is missing or malformed.
        UserError: if the rows were made for another version of the task or by several teachers, or a target is missing or
            unexpected.
    """
    rows = read_soft_labels(path, labels=task.label_names)
    for row in rows:
        if row.task_digest != task.digest:
            raise UserError(
                f"{path}: made for another version of task {task.name!r} (digest {row.task_digest[:12]}…, "
                f"this one is {task.digest[:12]}…); label again with: potstill label, or train with the earlier task file"
            )
        if bool(row.target) != task.input.target:
            found = "has a" if row.target else "lacks its"
            raise UserError(f"{path}: text {row.id!r} {found} target, against input.target of the task; label again")
    teachers = {row.teacher_digest for row in rows}
    if len(teachers) > 1:
        raise UserError(f"{path}: holds labels of {len(teachers)} teachers; train on the labels of one")
    return rows


def split_rows(source: str, rows: list[SoftLabel], share: float) -> TrainingRows:
    """Split the rows by the hash of their text. Validation rows that no path could label are left out.

    Args:
        source: where the rows come from, for the message.
        share: expected share of distinct texts that are held out, above 0 and below 1.
    Raises:
        UserError: if a side is empty.
    """
    training, validation = select.split(rows, share)
    validation = [row for row in validation if select.was_read(row)]
    if not training or not validation:
        empty = "validation" if training else "training"
        raise UserError(
            f"{source}: the {empty} side of the split is empty ({len(rows)} texts, validation share {share:g}); label more texts"
        )
    return TrainingRows(training, validation)


def select_rows(source: str, rows: list[SoftLabel], share: float, min_agreement: float) -> tuple[TrainingRows, Selection]:
    """Split the rows, and keep the training rows whose paths agree enough.

    Args:
        source, share: as for :func:`split_rows`.
        min_agreement: 0 to 1.
    Returns:
        (the rows to train with, the training side before and after the filter).
    Raises:
        UserError: if a side is empty, or fewer than two majority labels are left.
    """
    sides = split_rows(source, rows, share)
    selection = select.by_agreement(sides.training, min_agreement)
    select.check_enough(source, sides.training, selection, min_agreement)
    return TrainingRows(selection.kept, sides.validation), selection


def read_trained_rows(path: Path, checkpoint: Path, student: Student) -> TrainingRows:
    """Find the rows that a finished student was trained on, in file order.

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
    if student.used_gold is not None:
        changed = {row.id: row for row in read_soft_labels(checkpoint / GOLD_ROWS_FILE, labels=student.labels)}
        rows = [changed.pop(row.id, row) for row in rows]
        rows += changed.values()
    rest = [row for row in rows if row.text not in held_out and select.was_read(row)]
    if len(rest) < student.n_train:
        problem = (
            f"leaves {len(rest)} rows of {path} to train on, but student.json has {student.n_train}; train the checkpoint again"
        )
        raise FormatError(checkpoint / VALIDATION_FILE, "", problem)
    surest = sorted(range(len(rest)), key=lambda i: -rest[i].agreement)[: student.n_train]
    return TrainingRows([rest[i] for i in sorted(surest)], validation)
