"""The labels that people gave a text in an annotation tool, its gold label, and the guidelines shown to annotators."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from potstill.contract.task import Task

QUESTION = "label"  # name of the question in the projects that potstill writes, and looks for in those it reads
# Reasons why a text has no gold label, as they appear in the counts of skipped rows.
NOT_ANNOTATED, SET_ASIDE, TIED, SEVERAL = "not annotated", "set aside", "tied between annotators", "with several labels at once"


@dataclass(frozen=True)
class AnnotatedText:
    """One text of an annotation tool."""

    text: str
    id: str = ""
    target: str | None = None
    answers: tuple[str, ...] = ()  # the label of each person who submitted one
    otherwise: str = NOT_ANNOTATED  # reason for no gold label, if nobody submitted an answer
    unsure: bool = False  # True: the file does not say which answers were submitted

    @property
    def gold(self) -> str | None:
        """The label that most people chose; None if nobody answered, or on a tie."""
        if len(self.answers) < 2:  # nearly always
            return self.answers[0] if self.answers else None
        ranked = Counter(self.answers).most_common(2)
        return None if len(ranked) == 2 and ranked[0][1] == ranked[1][1] else ranked[0][0]

    @property
    def lacks(self) -> str:
        """Reason why there is no gold label; empty if there is one."""
        if self.gold is not None:
            return ""
        return TIED if self.answers else self.otherwise

    @property
    def disputed(self) -> bool:
        """True if there is a gold label and not everybody chose it."""
        return self.gold is not None and len(set(self.answers)) > 1


def gold_question(names: set[str]) -> str | None:
    """The name of the question with the gold label: `label`, or the only question; None if that is ambiguous."""
    if QUESTION in names or not names:
        return QUESTION
    return next(iter(names)) if len(names) == 1 else None


def text_field(fields: dict[str, object]) -> str | None:
    """The name of the field with the text: `text`, or the only string field besides id and target; None if that is ambiguous."""
    if fields.get("text") is not None:
        return "text" if isinstance(fields["text"], str) else None
    names = [name for name, value in fields.items() if isinstance(value, str) and name not in ("id", "target")]
    return names[0] if len(names) == 1 else None


@dataclass(frozen=True)
class AnnotationGuide:
    """The guidelines shown to annotators: question, labels with meanings, and guideline."""

    labels: dict[str, str]  # meaning by label name, in output order; an empty meaning is not shown
    question: str = "Which label fits?"
    guideline: str = ""
    target: bool = False  # True: every text is about a named target


def annotation_guide(task: Task) -> AnnotationGuide:
    """The guidelines that a task contains."""
    return AnnotationGuide({label.name: label.meaning for label in task.labels}, task.question, task.guideline, task.input.target)
