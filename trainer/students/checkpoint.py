"""Write a checkpoint folder, whole or not at all.

Beside the student it holds texts for the export: the calibration set, the held-out texts, and more texts for the gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from potstill.contract.checkpoint import (
    CALIBRATION_FILE,
    GATE_FILE,
    GOLD_ROWS_FILE,
    TASK_FILE,
    VALIDATION_FILE,
    Student,
    write_student,
)
from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire, questionnaire_to_json
from potstill.contract.questions.soft_answers import SoftAnswers, write_soft_answers
from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.contract.task import task_to_json
from potstill.contract.texts import Text, write_texts
from potstill.trainer.data.answered import AnsweredRows
from potstill.trainer.data.rows import TrainingRows
from potstill.trainer.students.encoder import Encoder, quiet

N_CALIBRATION = 256  # texts of the calibration set, but at most half of the training texts; more do not move activation ranges
N_GATE = 512  # texts for the export gate; on fewer, two texts that change their label by chance can decide

_Row = TypeVar("_Row", SoftLabel, SoftAnswers)


def save_checkpoint(checkpoint: Path, encoder: Encoder, student: Student, task: AnyTask, rows: TrainingRows | AnsweredRows) -> None:
    """Write the `transformers` folder, `student.json`, `task.json`, `calibration.jsonl`, `validation.jsonl` and `gate.jsonl`.

    Args:
        checkpoint: the folder; one that is already there is replaced when the new one is complete.
        rows: what the student was trained on, and what was held out; of the task's kind.
    Raises:
        UserError: if the disk refuses; what was at ``checkpoint`` stays as it was.
    """
    with atomic.folder(checkpoint) as folder:
        try:
            with quiet():
                encoder.model.save_pretrained(folder)
        except SafetensorError as error:  # safetensors' own error for a full disk
            raise UserError(f"{checkpoint}: cannot be written ({error}); free some space or choose another place") from error
        encoder.tokenizer.save_pretrained(folder)
        write_student(folder, student)
        data = questionnaire_to_json(task) if isinstance(task, Questionnaire) else task_to_json(task)
        (folder / TASK_FILE).write_bytes(data)
        if isinstance(rows, AnsweredRows):
            gate_answers = _write_calibration(folder, rows.training, rows.validation)
            write_soft_answers(folder / VALIDATION_FILE, rows.validation)
            write_soft_answers(folder / GATE_FILE, gate_answers)
            if student.used_gold is not None:
                write_soft_answers(folder / GOLD_ROWS_FILE, rows.with_gold)
        else:
            gate_labels = _write_calibration(folder, rows.training, rows.validation)
            write_soft_labels(folder / VALIDATION_FILE, rows.validation)
            write_soft_labels(folder / GATE_FILE, gate_labels)
            if student.used_gold is not None:
                write_soft_labels(folder / GOLD_ROWS_FILE, rows.with_gold)


def _write_calibration(folder: Path, training: Sequence[_Row], validation: Sequence[_Row]) -> list[_Row]:
    """Write `calibration.jsonl`; returns the rows for the gate."""
    calibration, unseen = _calibration_and_unseen(training)
    texts = [Text(text=row.text, id=row.id, target=row.target) for row in calibration]
    (folder / CALIBRATION_FILE).write_bytes(write_texts(texts))
    return _spread(unseen, max(0, N_GATE - len(validation)))


def _calibration_and_unseen(training: Sequence[_Row]) -> tuple[list[_Row], list[_Row]]:
    """(the rows of the calibration set, the rows with other texts)."""
    calibration = _spread(training, min(N_CALIBRATION, -(-len(training) // 2)))
    seen = {row.text for row in calibration}
    return calibration, [row for row in training if row.text not in seen]


def _spread(rows: Sequence[_Row], n: int) -> list[_Row]:
    """At most ``n`` rows at equal steps through the file, so that a sorted file is covered from end to end."""
    n = min(n, len(rows))
    return [rows[i * len(rows) // n] for i in range(n)]
