"""Write a comparison as tables, as JSON, and as one prediction a text."""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.contract.interchange.notebook import text_table
from potstill.contract.scores.record import Score
from potstill.trainer.evaluation.comparison import SystemComparison
from potstill.trainer.evaluation.questions import QuestionsComparison
from potstill.trainer.evaluation.questions_text import (
    questions_json,
    questions_notes,
    questions_predictions,
    questions_text,
)


def as_text(found: SystemComparison | QuestionsComparison) -> str:
    """Three tables: scores, the student minus each of the others, the student's confusion; of several questions one for each."""
    if isinstance(found, QuestionsComparison):
        return questions_text(found)
    parts = [f"{len(found.texts)} gold texts, labels {', '.join(found.labels)}; 95 % intervals in brackets", "", *_scores(found)]
    if found.against:
        parts += ["", *_against(found)]
    return "\n".join([*parts, "", *_confusion(found)])


def as_json(found: SystemComparison | QuestionsComparison) -> bytes:
    """One JSON object: labels, n, systems (scores and note), student_minus, confusion, notes."""
    if isinstance(found, QuestionsComparison):
        return questions_json(found)
    content: dict[str, Any] = {
        "n": len(found.texts),
        "labels": found.labels,
        "systems": {system.name: {**found.scores[system.name], "note": system.note} for system in found.systems},
        "student_minus": found.against,
        "confusion": found.confusion.tolist(),
        "notes": found.notes,
    }
    return msgspec.json.encode(content)


def predictions(found: SystemComparison | QuestionsComparison) -> bytes:
    """JSON lines, one for each text: id, gold, and probs by system and label."""
    if isinstance(found, QuestionsComparison):
        return questions_predictions(found)
    encoder = msgspec.json.Encoder()
    lines = []
    for i, text in enumerate(found.texts):
        probs = {system.name: dict(zip(found.labels, system.probs[i].tolist(), strict=True)) for system in found.systems}
        lines.append(encoder.encode({"id": text.id, "gold": text.gold, "probs": probs}) + b"\n")
    return b"".join(lines)


def notes(found: SystemComparison | QuestionsComparison) -> list[str]:
    """The notes on gold texts and systems, a line each."""
    if isinstance(found, QuestionsComparison):
        return questions_notes(found)
    return [*found.notes, *(f"{system.name}: {system.note}" for system in found.systems if system.note)]


def _scores(found: SystemComparison) -> list[str]:
    """A line for each system."""
    return text_table(found.cells())


def _against(found: SystemComparison) -> list[str]:
    """A line for each system but the student."""
    rows = [["student minus", "accuracy", "macro-F1", "McNemar p", "only student right", "only other right"]]
    for name, each in found.against.items():
        test = each.mcnemar
        rows.append([name, _signed(each.accuracy), _signed(each.macro_f1), f"{test.p:.2g}", str(test.n_first), str(test.n_second)])
    return text_table(rows)


def _confusion(found: SystemComparison) -> list[str]:
    """A line for each gold label."""
    rows = [["gold / student", *found.labels]]
    rows += [[name, *map(str, row)] for name, row in zip(found.labels, found.confusion.tolist(), strict=True)]
    return text_table(rows)


def _signed(score: Score) -> str:
    """`+0.021 [-0.010, +0.052]`."""
    return f"{score.value:+.3f} [{score.low:+.3f}, {score.high:+.3f}]"
