"""What people answered about one text in an annotation tool, and the one gold label that follows from it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from potstill.contract.task import Task

QUESTION = "label"  # what potstill calls the question in the projects that it writes, and looks for in those that it reads
# Why a text has no gold label, as counts of skipped rows say it.
NOT_ANNOTATED, SET_ASIDE, TIED, SEVERAL = "not annotated", "set aside", "tied between annotators", "with several labels at once"


@dataclass(frozen=True)
class AnnotatedText:
    """One text as an annotation tool holds it."""

    text: str
    id: str = ""
    target: str | None = None
    answers: tuple[str, ...] = ()  # one label a person, of those who submitted one
    otherwise: str = NOT_ANNOTATED  # why there is no gold label when nobody submitted one
    unsure: bool = False  # whether the file leaves out which of the answers were submitted

    @property
    def gold(self) -> str | None:
        """The label that more people chose than any other; None when nobody answered, or on a tie."""
        ranked = Counter(self.answers).most_common(2)
        if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
            return None
        return ranked[0][0]

    @property
    def lacks(self) -> str:
        """Why there is no gold label; empty when there is one."""
        if self.gold is not None:
            return ""
        return TIED if self.answers else self.otherwise

    @property
    def disputed(self) -> bool:
        """Whether there is a gold label that not everybody chose."""
        return self.gold is not None and len(set(self.answers)) > 1


def gold_question(names: set[str]) -> str | None:
    """Which of the questions of a project holds the gold label: `label`, or the only one; None if that is not clear."""
    if QUESTION in names or not names:
        return QUESTION
    return next(iter(names)) if len(names) == 1 else None


def text_field(fields: dict[str, object]) -> str | None:
    """Which field holds the text: `text`, or the only one that holds a string beside id and target; None if that is not clear."""
    if fields.get("text") is not None:
        return "text" if isinstance(fields["text"], str) else None
    names = [name for name, value in fields.items() if isinstance(value, str) and name not in ("id", "target")]
    return names[0] if len(names) == 1 else None


@dataclass(frozen=True)
class AnnotationGuide:
    """The question and its possible answers."""

    labels: dict[str, str]  # meaning by label name, in output order; an empty meaning is not shown
    question: str = "Which label fits?"
    guideline: str = ""
    target: bool = False  # whether every text is about a named target


def annotation_guide(task: Task) -> AnnotationGuide:
    """All that the task file says to an annotator."""
    return AnnotationGuide({label.name: label.meaning for label in task.labels}, task.question, task.guideline, task.input.target)
