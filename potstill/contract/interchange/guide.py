"""What a reviewer in an annotation tool is told beside the texts."""

from __future__ import annotations

from dataclasses import dataclass

from potstill.contract.task import Task


@dataclass(frozen=True)
class Guide:
    """The question and its possible answers."""

    labels: dict[str, str]  # meaning by label name, in output order; an empty meaning is not shown
    question: str = "Which label fits?"
    guideline: str = ""
    target: bool = False  # whether every text is about a named target


def of_task(task: Task) -> Guide:
    """All that the task file says to an annotator."""
    return Guide({label.name: label.meaning for label in task.labels}, task.question, task.guideline, task.input.target)
