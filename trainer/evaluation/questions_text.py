"""A comparison on several questions as text for a person, as JSON, and as a file of predictions."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from potstill.contract.questions.head import ranges
from potstill.contract.questions.kind_scores import MAIN
from potstill.contract.scores.record import Score
from potstill.trainer.evaluation.questions import QuestionsComparison

NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "log_loss": "log-loss",
    "ece": "ECE",
    "auc": "AUC",
    "brier": "Brier",
    "qwk": "quadratic kappa",
    "mae": "mean error",
    "map": "average precision",
    "subset_accuracy": "all tags right",
}
SHOWN = {  # by kind, the main metric first
    "choice": ("macro_f1", "accuracy", "log_loss", "ece"),
    "yesno": ("macro_f1", "auc", "brier", "ece"),
    "degree": ("qwk", "mae", "accuracy", "ece"),
    "tags": ("macro_f1", "micro_f1", "map", "subset_accuracy"),
}


def questions_text(found: QuestionsComparison) -> str:
    """A table for each question: the scores of its kind, and the student minus each of the others."""
    parts = [f"{len(found.texts)} gold texts; 95 % intervals in brackets"]
    for question in found.questions:
        head, shown = question.head, SHOWN[question.head.kind]
        rows = [["system", "n", *(NAMES[metric] for metric in shown)]]
        for name, scores in question.scores.items():
            rows.append([name, str(question.n), *(scores[one].as_text() if one in scores else "-" for one in shown)])
        parts += ["", f"{head.name} ({head.kind})", *_aligned(rows)]
        main = NAMES[MAIN[head.kind]]
        parts += [f"student minus {name}: {main} {_signed(score)}" for name, score in question.student_minus.items()]
    return "\n".join(parts)


def questions_json(found: QuestionsComparison) -> bytes:
    """One JSON object: n, and by question kind, n, scores of each system and the student's difference to the others; notes."""
    content: dict[str, Any] = {
        "n": len(found.texts),
        "questions": {
            one.head.name: {
                "kind": one.head.kind,
                "n": one.n,
                "labels": one.head.labels,
                "systems": one.scores,
                "student_minus": {name: {MAIN[one.head.kind]: score} for name, score in one.student_minus.items()},
            }
            for one in found.questions
        },
        "notes": questions_notes(found),
    }
    return msgspec.json.encode(content)


def questions_predictions(found: QuestionsComparison) -> bytes:
    """JSON lines, one for each text: id, gold answers, and probs by system, question and label."""
    encoder, lines = msgspec.json.Encoder(), []
    for i, text in enumerate(found.texts):
        probs = {
            system.name: {
                head.name: dict(zip(head.labels, system.probs[i, own].tolist(), strict=True))
                for head, own in zip(system.heads, ranges(system.heads), strict=True)
                if not np.isnan(system.probs[i, own]).any()
            }
            for system in found.systems
        }
        lines.append(encoder.encode({"id": text.id, "gold": found.answers[i], "probs": probs}) + b"\n")
    return b"".join(lines)


def questions_notes(found: QuestionsComparison) -> list[str]:
    """The notes on gold texts and systems, a line each."""
    return [*found.notes, *(f"{system.name}: {system.note}" for system in found.systems if system.note)]


def _aligned(rows: list[list[str]]) -> list[str]:
    """A plain-text table, a line for each row."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _signed(score: Score) -> str:
    """`+0.021 [-0.010, +0.052]`."""
    return f"{score.value:+.3f} [{score.low:+.3f}, {score.high:+.3f}]"
