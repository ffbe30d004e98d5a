"""One question of a task: its kind, its labels, and the single question that a teacher is asked for it.

| kind | in the field | an answer |
| --- | --- | --- |
| choice | multi-class classification | one of the labels |
| tags | multi-label classification | any number of labels, each with a probability of its own |
| yesno | binary classification | yes or no |
| degree | ordinal classification | one of the levels, which have an order; and an expected value |
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

from potstill.contract.errors import FormatError
from potstill.contract.files.decode import Strict
from potstill.contract.task import Label

Kind = Literal["choice", "tags", "yesno", "degree"]
KINDS: tuple[str, ...] = get_args(Kind)
YES, NO = "yes", "no"  # the labels of a yes-or-no question, and of every tag where it is asked for alone
YES_NO = (YES, NO)
TAG = "{tag}"  # in a question about tags: where the tag stands when it is asked for alone
_ANY_TAG = "any of these"  # and what stands there when all are asked for
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LEAST = {"choice": 2, "degree": 2, "tags": 1}  # labels


class Question(Strict, kw_only=True):
    """One question about a text. `labels` are in output order; those of a degree rise from the lowest level to the highest."""

    name: str  # in soft labels, heads, outputs and replies
    kind: Kind = "choice"
    question: str
    guideline: str = ""  # for this question alone, after the task's own
    labels: list[Label] = []  # yesno: none, or `yes` and `no` with other words
    values: list[float] = []  # degree: what each level is worth, rising; empty: 1, 2, 3, ...

    @property
    def label_names(self) -> list[str]:
        """Names in output order; of a yes-or-no question `yes` and `no`."""
        return list(YES_NO) if self.kind == "yesno" else [label.name for label in self.labels]

    @property
    def level_values(self) -> list[float]:
        """What each level of a degree is worth, rising."""
        return self.values or [float(i) for i in range(1, len(self.labels) + 1)]

    @property
    def answers(self) -> list[Label]:
        """The labels that a teacher chooses from when the question is asked; for tags, when one tag is."""
        if self.kind not in ("yesno", "tags"):
            return self.labels
        stated = {label.name: label for label in self.labels} if self.kind == "yesno" else {}
        return [stated.get(name, Label(name=name)) for name in YES_NO]

    def asked(self, tag: Label | None) -> str:
        """The question as it is put to a teacher. Args: tag, of a question about tags: the one that is asked for."""
        if tag is None:
            return self.question.strip()
        shown = f"{tag.name} ({tag.meaning})" if tag.meaning else tag.name
        if TAG in self.question:
            return self.question.strip().replace(TAG, shown)
        return f"{self.question.strip()} Is {shown} one of them?"

    @property
    def asked_of_all(self) -> str:
        """A question about tags, as it is put to a teacher about all of them at once."""
        return self.question.strip().replace(TAG, _ANY_TAG)


def check_questions(path: Path, questions: list[Question]) -> None:
    """Check that there is a question, that each is whole, and that their names differ; raises FormatError."""
    if not questions:
        raise FormatError(path, "questions", "is empty; a task needs at least one [[questions]]")
    names: list[str] = []
    for i, question in enumerate(questions):
        place = f"questions[{i}]"
        if not _NAME.fullmatch(question.name):
            problem = f"is {question.name!r}; begin with a small letter, and use small letters, digits and underscores (at most 64)"
            raise FormatError(path, f"{place}.name", problem)
        if question.name in names:
            raise FormatError(path, f"{place}.name", f"repeats {question.name!r}; rename one of the two")
        names.append(question.name)
        if not question.question.strip():
            raise FormatError(path, f"{place}.question", "is empty; write one sentence")
        _check_labels(path, place, question)
        _check_values(path, place, question)


def _check_labels(path: Path, place: str, question: Question) -> None:
    """Check the number, names and words of a question's labels."""
    labels, kind = question.labels, question.kind
    if kind == "yesno" and labels and sorted(label.name for label in labels) != sorted(YES_NO):
        found = ", ".join(label.name for label in labels)
        raise FormatError(path, f"{place}.labels", f"are {found}; a yesno question has none, or yes and no with other words")
    if len(labels) < _LEAST.get(kind, 0):
        raise FormatError(path, f"{place}.labels", f"has {len(labels)}; a question of kind {kind} needs at least {_LEAST[kind]}")
    names: list[str] = []
    for i, label in enumerate(labels):
        if not label.name.strip():
            raise FormatError(path, f"{place}.labels[{i}].name", "is empty; name the label")
        if label.name in names:
            raise FormatError(path, f"{place}.labels[{i}].name", f"repeats {label.name!r}; rename one of the two")
        names.append(label.name)
    words: dict[str, str] = {}
    for i, label in enumerate(labels if kind == "tags" else question.answers):
        for word in label.spellings:
            where = f"{place}.labels[{i}].words"
            if not word.strip() or word != word.strip() or "\n" in word:
                raise FormatError(path, where, f"{word!r} is blank or has space around it; write the bare word")
            if word in words:
                raise FormatError(path, where, f"{word!r} already stands for {words[word]!r}; choose another word")
            words[word] = label.name


def _check_values(path: Path, place: str, question: Question) -> None:
    """Check that only the levels of a degree have values, one each, rising."""
    values = question.values
    if not values:
        return
    if question.kind != "degree":
        raise FormatError(path, f"{place}.values", f"are given for kind {question.kind}; only a degree has values")
    if len(values) != len(question.labels):
        raise FormatError(path, f"{place}.values", f"has {len(values)} numbers; there are {len(question.labels)} levels")
    rising = all(low < high for low, high in pairwise(values))
    if not rising or not all(math.isfinite(value) for value in values):
        raise FormatError(path, f"{place}.values", f"are {values}; they must be finite and rise from level to level")
