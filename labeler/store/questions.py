"""Runs of a task of several questions: each question, and each tag, has a run of its own; together they are one labelling."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from potstill.contract.errors import FormatError, UserError
from potstill.contract.questions.gold import answer_of
from potstill.contract.questions.question import NO, YES, Kind, Question
from potstill.contract.questions.questionnaire import Ask
from potstill.contract.task import Label
from potstill.contract.texts import Text
from potstill.labeler.store.database import LabelStore, Run, RunSettings

# What the runs of one labelling may differ in.
_OWN: dict[str, Any] = {
    **dict.fromkeys(("question", "kind", "prompt_digest"), ""),
    **{key: [] for key in ("values", "labels", "words", "word_labels")},
    **dict.fromkeys(("gpu_layers", "candidates"), 0),
}


@dataclass(frozen=True)
class OneQuestion:
    """A question, or one tag, of the task that a run is for."""

    ask: Ask
    task_digest: str  # of the whole task

    def named(self, settings: RunSettings) -> RunSettings:
        """The settings of a run that asks it alone, as those of a run that asks it for the whole task."""
        question = self.ask.question
        values = question.level_values if question.kind == "degree" else []
        return msgspec.structs.replace(
            settings, question=self.ask.key, kind=question.kind, values=values, task_digest=self.task_digest
        )


def question_name(settings: RunSettings) -> str:
    """Name of the question that a run asks, or of the one that its tag belongs to."""
    return settings.question.partition("/")[0]


def tag_name(settings: RunSettings) -> str | None:
    """The tag that a run asks for; None where it asks no tag."""
    _name, slash, tag = settings.question.partition("/")
    return tag if slash else None


def own_texts(texts: Sequence[Text], settings: RunSettings, path: pathlib.Path) -> list[Text]:
    """The texts with the gold answer to the run's question alone, or none; raises FormatError as :func:`own_gold`."""
    return [msgspec.structs.replace(text, gold=own_gold(path, settings, text)) for text in texts]


def own_gold(path: pathlib.Path, settings: RunSettings, text: Text) -> str | None:
    """The label of the run that a text's gold names; None if it names none.

    Raises:
        FormatError: if it is no answer to the question.
    """
    if not settings.question or text.gold is None:
        return text.gold
    name, tag = question_name(settings), tag_name(settings)
    given: Any = text.gold
    if text.gold.lstrip().startswith("{"):
        try:
            given = msgspec.json.decode(text.gold)
        except msgspec.DecodeError as error:
            raise FormatError(path, f"text {text.id!r}: gold", f"is {text.gold[:60]!r}; it must be a JSON object") from error
        given = given.get(name)
    if given is None:
        return None
    if tag is not None:
        tags = given.split(";") if isinstance(given, str) else given
        return YES if tag in [one.strip() for one in tags] else NO
    return answer_of(path, f"text {text.id!r}: gold.{name}", _question(settings), given)[0]


def labelling(store: LabelStore, run: Run) -> list[Run]:
    """The runs of the labelling that a run belongs to, in the order of the task's questions; of each question the newest.

    Raises:
        UserError: if the run is not one of a task of several questions.
    """
    if not run.settings.question:
        raise UserError(f"{store.path}: run {run.number} asks a task of one choice; give its task")
    wanted = _shared(run.settings)
    found: dict[str, Run] = {}
    for other in store.runs():
        if other.settings.question and _shared(other.settings) == wanted:
            found[other.settings.question] = other
    return list(found.values())


def questions_of(runs: Sequence[Run]) -> list[Question]:
    """The questions of a labelling, with what their runs tell about them: name, kind, labels and values."""
    found: dict[str, Question] = {}
    for run in runs:
        name, tag = question_name(run.settings), tag_name(run.settings)
        if tag is None:
            found[name] = _question(run.settings)
        else:
            known = found[name].labels if name in found else []
            found[name] = Question(name=name, kind="tags", question=name, labels=[*known, Label(name=tag)])
    return list(found.values())


def _question(settings: RunSettings) -> Question:
    """A question without tags as its run knows it."""
    kind: Kind = settings.kind  # type: ignore[assignment]  # as it was written
    labels = [] if kind == "yesno" else [Label(name=name) for name in settings.labels]
    return Question(name=question_name(settings), kind=kind, question=settings.question, labels=labels, values=settings.values)


def _shared(settings: RunSettings) -> RunSettings:
    """The settings that all runs of a labelling have in common."""
    return msgspec.structs.replace(settings, **_OWN)
