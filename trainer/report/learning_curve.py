"""The learning curve: the same student trained on parts of its soft labels."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from potstill.contract.checkpoint import Student
from potstill.contract.scores.record import Score
from potstill.contract.soft_label import SoftLabel, read_soft_labels, write_soft_labels
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.trainer.config import as_trained
from potstill.trainer.evaluation.evaluate import evaluate
from potstill.trainer.run import train
from potstill.trainer.training.loop import Progress

SHARES = (0.1, 0.2, 0.5, 1.0)  # of the soft labels


def learning_curve(
    task: Task, student: Student, soft_labels: Path, texts: list[Text], progress: Progress | None = None
) -> list[tuple[int, Score]]:
    """(number of soft labels, macro-F1 on the gold texts) for each share, each by a student trained from the backbone.

    Backbone, loss, seed and tokens are the checkpoint's, everything else as `potstill train` has it by default.

    Args:
        soft_labels: the whole file.
        progress: told ("train", steps done, steps planned, loss of the last step) for each of the students.
    Raises:
        FormatError: if the file or the backbone is malformed.
        UserError: if the smallest part leaves too little to train on.
    """
    rows = read_soft_labels(soft_labels, labels=task.label_names)
    config = as_trained(student)
    points = []
    with tempfile.TemporaryDirectory() as work:
        for share in SHARES:
            part = nested_part(rows, share)
            path, checkpoint = Path(work) / "part.jsonl", Path(work) / "student"
            write_soft_labels(path, part)
            train(task, path, checkpoint, config, progress)
            points.append((len(part), evaluate(checkpoint, texts)["macro_f1"]))
    return points


def nested_part(rows: Sequence[SoftLabel], share: float) -> list[SoftLabel]:
    """That share of the rows, at least one, in file order; chosen by hash, so that a smaller part lies within every larger one."""
    n = max(1, round(share * len(rows)))
    ranked = sorted(
        range(len(rows)), key=lambda i: hashlib.sha256(f"curve\0{rows[i].id}".encode("utf-8", "surrogatepass")).digest()
    )
    return [rows[i] for i in sorted(ranked[:n])]
