"""The checkpoint folder, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from contract import atomic
from contract.checkpoint import CALIBRATION_FILE, TASK_FILE, VALIDATION_FILE, Student, write_student
from contract.errors import UserError
from contract.soft_label import SoftLabel, write_soft_labels
from contract.task import Task, task_to_json
from contract.texts import Text, write_texts
from trainer.students import Encoder

N_CALIBRATION = 256  # texts; more do not move activation ranges


@dataclass(frozen=True)
class Held:
    """The rows a student was trained on and those held out."""

    training: list[SoftLabel]
    validation: list[SoftLabel]


def save_checkpoint(checkpoint: Path, encoder: Encoder, student: Student, task: Task, held: Held) -> None:
    """Write the `transformers` folder, `student.json`, `task.json`, `calibration.jsonl` and `validation.jsonl`.

    Raises:
        UserError: if the disk refuses; what was at ``checkpoint`` is untouched.
    """
    with atomic.folder(checkpoint) as folder:
        try:
            encoder.model.save_pretrained(folder, safe_serialization=True)
        except SafetensorError as error:  # the Rust library reports a full disk in its own way
            raise UserError(f"{checkpoint}: cannot be written ({error}); free some space or choose another place") from error
        encoder.tokenizer.save_pretrained(folder)
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors writes for the owner's eyes only
        write_student(folder, student)
        (folder / TASK_FILE).write_bytes(task_to_json(task))
        (folder / CALIBRATION_FILE).write_bytes(write_texts(_calibration_texts(held.training)))
        write_soft_labels(folder / VALIDATION_FILE, held.validation)


def _calibration_texts(rows: Sequence[SoftLabel]) -> list[Text]:
    """Training texts at equal steps through the file, so that a sorted file is seen from end to end."""
    n = min(N_CALIBRATION, len(rows))
    chosen = [rows[i * len(rows) // n] for i in range(n)]
    return [Text(text=row.text, id=row.id, target=row.target) for row in chosen]
