"""The soft labels of several questions that a student is trained on: read, split, and filtered question by question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.questions.gold import parse_gold
from potstill.contract.questions.head import HOLDS
from potstill.contract.questions.question import NO, YES, Question
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire
from potstill.contract.questions.soft_answers import QuestionLabel, SoftAnswers, read_soft_answers, rows_of
from potstill.contract.soft_label import SoftLabel
from potstill.contract.task import Task
from potstill.contract.texts import Text, read_texts
from potstill.trainer.data.rows import read_rows
from potstill.trainer.data.selection import SLACK, is_validation
from potstill.trainer.data.targets import majority_classes


@dataclass(frozen=True)
class AnsweredRows:
    """The rows that a student is trained on, and those that are held out; each answers at least one question.

    What is not learned from, because no path could be read or the paths disagree, is no answer.
    """

    training: list[SoftAnswers]
    validation: list[SoftAnswers]
    n_unread: dict[str, int]  # by question: answers on the training side that no path could give
    n_disagreed: dict[str, int]  # and those below the minimum agreement
    with_gold: list[SoftAnswers] = field(default_factory=list)  # of all training texts: those with a gold answer


def read_answers(path: Path, task: Questionnaire) -> list[SoftAnswers]:
    """Read a file of soft labels that one teacher made for this version of the task.

    Raises:
        FormatError: if the file is missing or malformed.
        UserError: if the rows were made for another version of the task or by several teachers, or a target is missing or
            unexpected.
    """
    rows = read_soft_answers(path, task.questions)
    for row in rows:
        if row.task_digest != task.digest:
            raise UserError(
                f"{path}: made for another version of task {task.name!r} (digest {row.task_digest[:12]}…, "
                f"this one is {task.digest[:12]}…); label again with: potstill label, or train with the earlier task file"
            )
        if bool(row.target) != task.input.target:
            found = "has a" if row.target else "lacks its"
            raise UserError(f"{path}: text {row.id!r} {found} target, against input.target of the task; label again")
    teachers = {row.teacher_digest for row in rows}
    if len(teachers) > 1:
        raise UserError(f"{path}: holds labels of {len(teachers)} teachers; train on the labels of one")
    return rows


def read_one_question(path: Path, task: Questionnaire, key: str) -> tuple[Task, list[SoftLabel]]:
    """(one question, or one tag, as a task of its own; its soft labels) from a file of soft labels of all questions.

    Args:
        key: `stance`, or `topics/price` for a tag, which is then answered yes or no.
    Raises:
        FormatError: as :func:`read_answers`.
        UserError: as there, and if there is no such question, or no text answers it.
    """
    ask = task.find_ask(key)
    found = rows_of(read_answers(path, task), ask.question, ask.tag)
    if not found:
        raise UserError(f"{path}: no text answers {key}; label with the question, or name another one")
    return ask.task, [msgspec.structs.replace(row, task_digest=ask.task.digest) for row in found]


def one_choice(path: Path, task: AnyTask, question: str | None) -> tuple[Task, list[SoftLabel]]:
    """(a task of one choice, its soft labels): the task itself, or one of its questions.

    Args:
        question: as the key of :func:`read_one_question`; None: the task asks one choice.
    Raises:
        FormatError, UserError: as :func:`read_one_question` and :func:`potstill.trainer.data.rows.read_rows`; or if the task asks
            one choice and a question is named, or several and none is.
    """
    if isinstance(task, Task):
        if question is not None:
            raise UserError(f"--question is {question!r}, but task {task.name!r} asks one choice; leave it out")
        return task, read_rows(path, task)
    return read_one_question(path, task, _named(task, question))


def gold_of_one(file: Path, task: AnyTask, question: str | None) -> list[Text]:
    """The texts of a file that have a gold answer to a task of one choice, or to one question; raises as :func:`one_choice`."""
    if isinstance(task, Task):
        return read_texts(file, labels=task.label_names, target=task.input.target, gold=True).texts
    ask, found = task.find_ask(_named(task, question)), list[Text]()
    for text in read_texts(file, target=task.input.target, gold=True).texts:
        labels = parse_gold(file, f"text {text.id!r}", task.questions, text.gold).get(ask.question.name)
        if labels is not None:
            gold = labels[0] if ask.tag is None else YES if ask.tag in labels else NO
            found.append(msgspec.structs.replace(text, gold=gold))
    return found


def _named(task: Questionnaire, question: str | None) -> str:
    """The question; raises UserError if none is named."""
    if question is None:
        keys = ", ".join(ask.key for ask in task.asks())
        raise UserError(f"task {task.name!r} asks several questions; name one with --question: {keys}")
    return question


def select_answers(
    source: str, rows: Sequence[SoftAnswers], questions: Sequence[Question], share: float, min_agreement: float
) -> AnsweredRows:
    """Split the rows by the hash of their text, and keep the training answers whose paths agree enough.

    Held-out answers are kept whatever their agreement: the student will meet contested texts too.

    Args:
        source: where the rows come from, for messages.
        share: expected share of distinct texts that are held out, above 0 and below 1.
        min_agreement: 0 to 1.
    Raises:
        UserError: if a question has no answer left on a side, or all of its training answers are the same.
    """
    sides = ([row for row in rows if is_validation(row.text, share) == held_out] for held_out in (False, True))
    before, held_out = sides
    training = _kept(before, min_agreement)
    found = AnsweredRows(training, _kept(held_out, 0.0), *_left_out(before, questions, min_agreement))
    for question in questions:
        _check_question(source, question, before, found, min_agreement)
    return found


def places_of(rows: Sequence[SoftAnswers], question: Question) -> NDArray[np.int64]:
    """int64 [n]: which rows answer the question."""
    return np.array([i for i, row in enumerate(rows) if row.answers.get(question.name) is not None], dtype=np.int64)


def distributions(rows: Sequence[SoftAnswers], question: Question) -> NDArray[np.float64]:
    """float64 [n, C]: the probabilities of the n rows that answer the question; rows sum to 1, but for tags."""
    found = [label for row in rows if (label := row.answers.get(question.name)) is not None]
    return np.array([[label.probs[name] for name in question.label_names] for label in found], dtype=np.float64)


def majorities(rows: Sequence[SoftAnswers], question: Question) -> NDArray[np.int64]:
    """The teacher's majority answers of the n rows that answer the question: int64 [n]; of tags 0 or 1 [n, C]."""
    if question.kind != "tags":
        return majority_classes(rows_of(rows, question), question.label_names)
    found = [label for row in rows if (label := row.answers.get(question.name)) is not None]
    held = [[label.votes[name] >= HOLDS * label.n_paths for name in question.label_names] for label in found]
    return np.array(held, dtype=np.int64)


def was_read(label: QuestionLabel) -> bool:
    """Whether any path gave an answer; if none did, the distribution says nothing about the text."""
    return label.agreement > 0


def _kept(rows: Sequence[SoftAnswers], min_agreement: float) -> list[SoftAnswers]:
    """The rows with the answers that were read and agree enough; a row without any is left out."""
    found = []
    for row in rows:
        answers = {
            name: label if label is not None and was_read(label) and label.agreement >= min_agreement - SLACK else None
            for name, label in row.answers.items()
        }
        if any(label is not None for label in answers.values()):
            found.append(msgspec.structs.replace(row, answers=answers))
    return found


def _left_out(
    rows: Sequence[SoftAnswers], questions: Sequence[Question], min_agreement: float
) -> tuple[dict[str, int], dict[str, int]]:
    """By question, the answers that were not read, and those that disagree."""
    unread, disagreed = {}, {}
    for question in questions:
        labels = [label for row in rows if (label := row.answers.get(question.name)) is not None]
        unread[question.name] = sum(not was_read(label) for label in labels)
        disagreed[question.name] = sum(was_read(label) and label.agreement < min_agreement - SLACK for label in labels)
    return unread, disagreed


def _check_question(
    source: str, question: Question, before: Sequence[SoftAnswers], rows: AnsweredRows, min_agreement: float
) -> None:
    """Refuse a question that nothing can be learned about."""
    name, n_before = question.name, len(places_of(before, question))
    if not len(places_of(rows.training, question)):
        agreements = [label.agreement for row in before if (label := row.answers.get(name)) is not None]
        reason = f"the highest agreement is {max(agreements):g}" if agreements else "no text answers it"
        raise UserError(
            f"{source}: none of {n_before} training texts has an answer to {name} with an agreement of at least {min_agreement:g} "
            f"({reason}); label more texts, lower the minimum agreement, or leave the question out of the task"
        )
    if not len(places_of(rows.validation, question)):
        raise UserError(
            f"{source}: no held-out text answers {name} ({len(rows.validation)} are held out); label more texts, or hold out more "
            "with --validation-share"
        )
    answers = majorities(rows.training, question)
    if len(np.unique(answers, axis=0)) == 1:
        raise UserError(
            f"{source}: all {len(answers)} kept answers to {name} are the same, but a student needs at least two different ones; "
            "check the labels, add texts of the other kinds, or lower the minimum agreement"
        )
