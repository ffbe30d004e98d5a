"""The task of several questions (`task.toml`, format 2), and each of its questions as a task of its own.

Format 1 is a task of one choice. A file of format 2 that holds one choice and nothing else means the same, and is read as that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import decode, digest
from potstill.contract.files.decode import Strict
from potstill.contract.questions.gold import Given, answers_of
from potstill.contract.questions.question import NO, YES, Question, check_questions
from potstill.contract.task import FORMAT as ONE_QUESTION
from potstill.contract.task import Example, Input, Knowledge, Label, Prompt, Task, check_task, load_task, missing

FORMAT = 2


class AnsweredExample(Strict, kw_only=True):
    """A worked example: a text, and the answers to the questions; a question may be left out."""

    text: str
    answers: dict[str, Given]  # by question
    rationales: dict[str, str] = {}  # by question: the reasoning, for teachers that reason first
    target: str | None = None


@dataclass(frozen=True)
class Ask:
    """What a teacher is asked at a time: a question, or one of its tags."""

    question: Question
    task: Task  # that alone, as a task of one choice
    tag: str | None = None  # of a question about tags: the one that is asked for

    @property
    def key(self) -> str:
        """`stance`, or `topics/price`: names the run of its paths in a label store."""
        return self.question.name if self.tag is None else f"{self.question.name}/{self.tag}"


class Questionnaire(Strict, kw_only=True):
    """A task of several questions about every text."""

    format: int
    name: str
    guideline: str = ""  # for all questions
    questions: list[Question]
    examples: list[AnsweredExample] = []
    knowledge: list[Knowledge] = []
    input: Input = Input()
    prompt: Prompt = Prompt()

    @property
    def digest(self) -> str:
        """SHA-256 of the content; layout, comments and the order of keys do not matter."""
        return digest.of_value(self)

    @property
    def question_names(self) -> list[str]:
        """Names in the task's order."""
        return [question.name for question in self.questions]

    @property
    def label_names(self) -> list[str]:
        """All labels as flat names, `stance/bullish`: the outputs of a student, in order."""
        return names_of(self.questions)

    def find(self, name: str) -> Question:
        """The question of that name; raises UserError."""
        for question in self.questions:
            if question.name == name:
                return question
        raise UserError(f"the task has no question {name!r}; its questions are {', '.join(self.question_names)}")

    def find_ask(self, key: str) -> Ask:
        """What a key names, `stance` or `topics/price`; raises UserError."""
        asks = {ask.key: ask for ask in self.asks()}
        if key not in asks:
            raise UserError(f"the task has no question {key!r} with one answer; it has {', '.join(asks)}")
        return asks[key]

    def asks(self) -> list[Ask]:
        """Everything that a teacher is asked about a text, in the task's order: each question, and of tags each one."""
        return [ask for question in self.questions for ask in self.asks_of(question)]

    def asks_of(self, question: Question) -> list[Ask]:
        """What a teacher is asked for one question: the question, or each of its tags."""
        if question.kind != "tags":
            return [Ask(question, self._alone(question, None))]
        return [Ask(question, self._alone(question, label), label.name) for label in question.labels]

    def _alone(self, question: Question, tag: Label | None) -> Task:
        """One question, or one tag, as a task of its own; examples that do not answer it are left out."""
        examples = []
        for example in self.examples:
            labels = answers_of(Path(), "", [question], _own(example, question)).get(question.name)
            if labels is None:
                continue
            label = labels[0] if tag is None else YES if tag.name in labels else NO
            rationale = example.rationales.get(question.name, "")
            examples.append(Example(text=example.text, target=example.target, label=label, rationale=rationale))
        return Task(
            format=ONE_QUESTION,
            name=self.name,
            question=question.asked(tag),
            guideline="\n".join(part.strip() for part in (self.guideline, question.guideline) if part.strip()),
            labels=question.answers,
            examples=examples,
            knowledge=self.knowledge,
            input=self.input,
            prompt=self.prompt,
        )


AnyTask = Task | Questionnaire


class _Head(msgspec.Struct):
    """What tells the formats apart."""

    format: int = ONE_QUESTION
    questions: Any = None


def load_any_task(path: str | Path) -> AnyTask:
    """Read a `task.toml` of either format; one that asks a single choice is a :class:`Task`, whatever its format.

    Raises:
        FormatError: if the file is missing, malformed, of an unknown format, or contradicts itself.
    """
    path = Path(path)
    head = decode.toml(path, _Head)
    if head.format == ONE_QUESTION and head.questions is not None:
        raise FormatError(path, "format", f"is {ONE_QUESTION}, which asks one question; with [[questions]] write format = {FORMAT}")
    if head.format != FORMAT:
        return load_task(path)
    task = decode.toml(path, Questionnaire)
    check_questions(path, task.questions)
    _check_examples(path, task)
    for ask in task.asks():
        check_task(path, ask.task)
    only = task.asks()[0]
    return only.task if len(task.questions) == 1 and only.question.kind == "choice" else task


def as_any_task(task: AnyTask | str | Path) -> AnyTask:
    """The task itself, or the one in that file; raises FormatError as :func:`load_any_task`."""
    return task if isinstance(task, Task | Questionnaire) else load_any_task(task)


def as_single(task: AnyTask | str | Path, what: str) -> Task:
    """A task of one choice: the one given, or the one in that file.

    Args:
        what: that needs it, to begin the message with: "potstill tune".
    Raises:
        FormatError: as :func:`load_any_task`.
        UserError: if it has several questions, or one of another kind.
    """
    found = as_any_task(task)
    if isinstance(found, Questionnaire):
        asked = ", ".join(f"{question.name} ({question.kind})" for question in found.questions)
        raise UserError(f"{what} takes a task of one choice, and this one asks {asked}; write that question into a file of its own")
    return found


def questionnaire_from_json(path: Path, data: bytes) -> Questionnaire:
    """Decode a task that :func:`questionnaire_to_json` encoded; raises FormatError."""
    return decode.json(path, data, Questionnaire)


def questionnaire_to_json(task: Questionnaire) -> bytes:
    """Encode the task as JSON, the form in which a checkpoint stores it."""
    return msgspec.json.format(msgspec.json.encode(task), indent=2) + b"\n"


def missing_of(task: Questionnaire) -> list[str]:
    """What the questions could have and have not, and what that costs; a line each, beginning with what it is about."""
    return remarks_by_key((ask.key, line) for ask in task.asks() for line in missing(ask.task))


def remarks_by_key(remarks: Iterable[tuple[str, str]]) -> list[str]:
    """One line for each different remark, with the keys of what it is about: `topics/news, topics/people: ...`.

    Args:
        remarks: (key, remark); tags of a question often share one, which is then said once.
    """
    keys: dict[str, list[str]] = {}
    for key, remark in remarks:
        keys.setdefault(remark, []).append(key)
    return [f"{', '.join(own)}: {remark}" for remark, own in keys.items()]


def _check_examples(path: Path, task: Questionnaire) -> None:
    """Check that every example answers a question, each with one of its labels."""
    for i, example in enumerate(task.examples):
        place = f"examples[{i}]"
        if not answers_of(path, f"{place}.answers", task.questions, example.answers):
            raise FormatError(path, f"{place}.answers", f"is empty; answer one of {', '.join(task.question_names)}")
        for name in example.rationales:
            if name not in example.answers:
                raise FormatError(
                    path,
                    f"{place}.rationales.{name}",
                    "explains a question that the example does not answer; answer it there, or remove the line",
                )


def _own(example: AnsweredExample, question: Question) -> dict[str, Given]:
    """The example's answer to one question."""
    return {name: given for name, given in example.answers.items() if name == question.name}


def names_of(questions: Sequence[Question]) -> list[str]:
    """All labels as flat names, `stance/bullish`: the outputs of a student of several questions, in order."""
    return [f"{question.name}/{label}" for question in questions for label in question.label_names]
