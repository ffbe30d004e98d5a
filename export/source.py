"""What an export reads from a checkpoint, beside its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contract import decode
from contract.bundle import TOKENIZER_FILE
from contract.checkpoint import CALIBRATION_FILE, GATE_FILE, TASK_FILE, VALIDATION_FILE, Student
from contract.soft_label import read_soft_labels
from contract.task import Task, task_from_json
from contract.texts import read_texts
from export.gate import GateTexts, gate_texts
from export.tokenizer_file import pad_token_id
from serve.tokenize import Feeds, Tokenize


@dataclass(frozen=True)
class Source:
    """A checkpoint's content, its texts as the graph is fed."""

    checkpoint: Path
    student: Student
    task: Task
    calibration: list[Feeds]  # at least one
    gate: GateTexts


def read_source(checkpoint: Path, student: Student, inputs: list[str]) -> Source:
    """The checkpoint's task, calibration texts, and the texts of the gate: those of validation first.

    Args:
        checkpoint: the trainer's folder.
        student: its `student.json`.
        inputs: names of the graph's inputs.
    Raises:
        FormatError: if a file is missing or malformed.
    """
    path = checkpoint / TASK_FILE
    task = task_from_json(path, decode.read_bytes(path))
    tokenize = Tokenize(checkpoint / TOKENIZER_FILE, student.max_tokens, inputs)
    texts = read_texts(checkpoint / CALIBRATION_FILE, target=student.target).texts
    validation = read_soft_labels(checkpoint / VALIDATION_FILE, labels=student.labels)
    rows = [*validation, *read_soft_labels(checkpoint / GATE_FILE, labels=student.labels, empty=True)]
    feeds = [tokenize.ids(row.text, row.target if student.target else None) for row in rows]
    calibration = [tokenize.ids(text.text, text.target) for text in texts]
    texts_of_gate = gate_texts(rows, student.labels, feeds, len(validation), pad_token_id(checkpoint))
    return Source(checkpoint, student, task, calibration, texts_of_gate)
