"""Write a checkpoint folder, whole or not at all.

Beside the student it holds texts for the export: the calibration set, the held-out texts, and more texts for the gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError

from potstill.contract.checkpoint import CALIBRATION_FILE, GATE_FILE, TASK_FILE, VALIDATION_FILE, Student, write_student
from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.contract.task import Task, task_to_json
from potstill.contract.texts import Text, write_texts
from potstill.trainer.data.rows import TrainingRows
from potstill.trainer.students.encoder import Encoder

N_CALIBRATION = 256  # texts of the calibration set, but at most half of the training texts; more do not move activation ranges
N_GATE = 512  # texts for the export gate; on fewer, two texts that change their label by chance can decide


def save_checkpoint(checkpoint: Path, encoder: Encoder, student: Student, task: Task, rows: TrainingRows) -> None:
    """Write the `transformers` folder, `student.json`, `task.json`, `calibration.jsonl`, `validation.jsonl` and `gate.jsonl`.

    Args:
        checkpoint: the folder; one that is already there is replaced when the new one is complete.
        rows: what the student was trained on, and what was held out.
    Raises:
        UserError: if the disk refuses; what was at ``checkpoint`` stays as it was.
    """
    with atomic.folder(checkpoint) as folder:
        try:
            encoder.model.save_pretrained(folder, safe_serialization=True)
        except SafetensorError as error:  # safetensors' own error for a full disk
            raise UserError(f"{checkpoint}: cannot be written ({error}); free some space or choose another place") from error
        encoder.tokenizer.save_pretrained(folder)
        write_student(folder, student)
        (folder / TASK_FILE).write_bytes(task_to_json(task))
        calibration, unseen = _calibration_and_unseen(rows.training)
        texts = [Text(text=row.text, id=row.id, target=row.target) for row in calibration]
        (folder / CALIBRATION_FILE).write_bytes(write_texts(texts))
        write_soft_labels(folder / VALIDATION_FILE, rows.validation)
        write_soft_labels(folder / GATE_FILE, _spread(unseen, max(0, N_GATE - len(rows.validation))))


def _calibration_and_unseen(training: Sequence[SoftLabel]) -> tuple[list[SoftLabel], list[SoftLabel]]:
    """(the rows of the calibration set, the rows with other texts)."""
    calibration = _spread(training, min(N_CALIBRATION, -(-len(training) // 2)))
    seen = {row.text for row in calibration}
    return calibration, [row for row in training if row.text not in seen]


def _spread(rows: Sequence[SoftLabel], n: int) -> list[SoftLabel]:
    """At most ``n`` rows at equal steps through the file, so that a sorted file is covered from end to end."""
    n = min(n, len(rows))
    return [rows[i * len(rows) // n] for i in range(n)]
