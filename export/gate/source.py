"""What an export reads from a checkpoint, beside its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from potstill.contract.bundle import TOKENIZER_FILE
from potstill.contract.checkpoint import CALIBRATION_FILE, GATE_FILE, TASK_FILE, VALIDATION_FILE, Student
from potstill.contract.files import decode
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.task import Task, task_from_json
from potstill.contract.texts import Text, read_texts
from potstill.export.gate.criteria import GateTexts
from potstill.export.gate.speed import TextPair
from potstill.export.quantization.calibration_texts import N_TEXTS, n_tokens, spread_by_length
from potstill.export.tokenizer.files import pad_token_id
from potstill.serve.runtime.tokenizer import Feeds, Tokenize

MAX_POOL = 8192  # texts of a pool that are looked at, at equal steps
MAX_GATE = 2048  # texts of the gate with those of a pool: of so many, 1 % is known to within half a percent


@dataclass(frozen=True)
class ExportSource:
    """A checkpoint's content, its texts as the graph is fed."""

    checkpoint: Path
    student: Student
    task: Task
    tokenize: Tokenize
    calibration: list[Feeds]  # at least one text each
    unused: list[TextPair]  # texts of a pool that neither calibration nor the gate has
    gate: GateTexts


def read_source(checkpoint: Path, student: Student, inputs: list[str], pool: Path | None = None) -> ExportSource:
    """The checkpoint's task, calibration texts, and the texts of the gate: those of validation first.

    Args:
        checkpoint: the trainer's folder.
        student: its `student.json`.
        inputs: names of the graph's inputs.
        pool: a file of texts like those to come; calibration takes its texts from there, and the gate some more.
    Raises:
        FormatError: if a file is missing or malformed.
    """
    path = checkpoint / TASK_FILE
    task = task_from_json(path, decode.read_bytes(path))
    tokenize = Tokenize(checkpoint / TOKENIZER_FILE, student.max_tokens, inputs)
    validation = read_soft_labels(checkpoint / VALIDATION_FILE, labels=student.labels)
    rows = [*validation, *read_soft_labels(checkpoint / GATE_FILE, labels=student.labels, empty=True)]
    texts = read_texts(checkpoint / CALIBRATION_FILE, target=student.target).texts
    asks: list[TextPair] = [(row.text, row.target if student.target else None) for row in rows]
    calibration: list[TextPair] = [(text.text, text.target) for text in texts]
    unused: list[TextPair] = []
    if pool is not None:
        calibration, more, unused = _of_pool(pool, student, {row.text for row in rows}, tokenize, MAX_GATE - len(rows))
        seen = {text for text, _ in calibration}  # a training text may be a pool's too; the quantizer sees it, so the gate must not
        asks = [*asks[: len(validation)], *(ask for ask in asks[len(validation) :] if ask[0] not in seen), *more]
    gate = GateTexts(
        asks=asks,
        feeds=[tokenize.ids(*ask) for ask in asks],
        targets=np.array([[row.probs[name] for name in student.labels] for row in validation]),
        majority=np.array([student.labels.index(row.majority) for row in validation]),
        pad_id=pad_token_id(checkpoint),
        max_tokens=student.max_tokens,
    )
    return ExportSource(checkpoint, student, task, tokenize, [tokenize.ids(*ask) for ask in calibration], unused, gate)


def _of_pool(
    path: Path, student: Student, known: set[str], tokenize: Tokenize, n_gate: int
) -> tuple[list[TextPair], list[TextPair], list[TextPair]]:
    """(texts for calibration, texts for the gate, the rest) of a pool, each spread from short to long; none of them known."""
    texts = {(text.text, text.target): text for text in read_texts(path, target=student.target).texts if text.text not in known}
    found: list[Text] = list(texts.values())
    n = min(MAX_POOL, len(found))
    asks: list[TextPair] = [(text.text, text.target) for text in (found[i * len(found) // n] for i in range(n))]
    lengths = [n_tokens(tokenize.ids(*ask)) for ask in asks]
    calibration, left = spread_by_length(asks, lengths, min(N_TEXTS, -(-n // 2)))
    rest = dict(zip(asks, lengths, strict=True))
    return calibration, *spread_by_length(left, [rest[ask] for ask in left], max(0, n_gate))
