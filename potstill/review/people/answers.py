"""The questions that a person answers about a text, and an answer as gold has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from potstill.contract.questions.gold import Given, answer_of
from potstill.contract.questions.question import Question
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire

ONLY = ""  # name of the question of a task of one choice, as label stores have it


def questions_asked(task: AnyTask) -> list[Question]:
    """The questions of a task, in its order; that of a task of one choice has the name :data:`ONLY`."""
    if isinstance(task, Questionnaire):
        return task.questions
    only = Question(name=ONLY, kind="choice", question=task.question, guideline=task.guideline, labels=task.labels)
    return [only]


def given_answer(question: Question, chosen: Sequence[str]) -> Given | None:
    """The answer that a person chose, as gold has it; None if nothing was chosen, but for tags, where that means none holds.

    Args:
        chosen: names of labels.
    Raises:
        FormatError: if they do not answer the question.
    """
    if question.kind == "tags":
        return answer_of(Path("form"), question.name, question, list(chosen))
    if not chosen:
        return None
    return answer_of(Path("form"), question.name, question, chosen[-1])[0]


def labels_of(question: Question, given: Given) -> list[str]:
    """The labels that an answer names, in output order; raises FormatError if it does not fit the question."""
    return answer_of(Path("labels.db"), question.name or "decision", question, given)


def key_of(given: Given) -> str:
    """A text that is equal for equal answers."""
    return msgspec.json.encode(given).decode()


def answer_text(given: Given | None) -> str:
    """An answer in words: `bullish`, `price, service`, `none`."""
    if given is None:
        return ""
    if isinstance(given, list):
        return ", ".join(given) or "none"
    return str(given)
