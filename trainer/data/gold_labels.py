"""Gold labels among the soft labels that a student is trained on: only where `--use-gold` asks for it, and it is written down.

A held-out text keeps the teacher's label: it is what the student is chosen, calibrated and compared by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from potstill.contract.checkpoint import GOLD_ROWS_FILE, GoldUse, Student, UsedGold
from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.contract.questions.gold import parse_gold
from potstill.contract.questions.question import Question
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire
from potstill.contract.questions.soft_answers import QuestionLabel, SoftAnswers, read_soft_answers
from potstill.contract.soft_label import SoftLabel, entropy, read_soft_labels
from potstill.contract.texts import Text, read_texts, text_id
from potstill.trainer.data.selection import is_validation

METHOD = "gold"  # of a label that people alone gave; and ends the method of one that is the teacher's, too
Given = Mapping[str, Sequence[str]]  # labels by question; of a task of one choice the question is ""
_Row = TypeVar("_Row", SoftLabel, SoftAnswers)


@dataclass(frozen=True)
class GoldLabels:
    """The texts of a file, and what people said of each."""

    path: Path
    texts: list[Text]
    given: list[Given]  # by text
    how: GoldUse


def read_gold_labels(path: Path, task: AnyTask, how: GoldUse) -> GoldLabels:
    """Read a file of gold texts for training; raises FormatError if it is malformed, or a label does not fit the task."""
    if isinstance(task, Questionnaire):
        read = read_texts(path, target=task.input.target, gold=True)
        given: list[Given] = [parse_gold(path, f"text {text.id!r}", task.questions, text.gold) for text in read.texts]
    else:
        read = read_texts(path, labels=task.label_names, target=task.input.target, gold=True)
        given = [{"": [text.gold or ""]} for text in read.texts]
    return GoldLabels(path, read.texts, given, how)


def labels_with_gold(rows: list[SoftLabel], gold: GoldLabels, share: float) -> tuple[list[SoftLabel], list[SoftLabel], UsedGold]:
    """(all rows, those with a gold label, what was done). Args: share of distinct texts that are held out, 0 to 1."""

    def changed(row: SoftLabel, given: Given) -> SoftLabel:
        label = _with_gold(_label_of(row), given[""], gold.how, tags=False)
        return msgspec.structs.replace(row, **_fields(label))

    def new(text: Text, name: str, given: Given) -> SoftLabel:
        label = _gold_alone(list(rows[0].probs), given[""], tags=False)
        digests: dict[str, Any] = {"teacher_digest": rows[0].teacher_digest, "task_digest": rows[0].task_digest}
        return SoftLabel(id=name, text=text.text, target=text.target, **_fields(label), **digests)

    return _merge(rows, gold, share, (changed, new))


def answers_with_gold(
    rows: list[SoftAnswers], gold: GoldLabels, share: float, questions: Sequence[Question]
) -> tuple[list[SoftAnswers], list[SoftAnswers], UsedGold]:
    """The same for several questions; a question without a gold answer keeps the teacher's."""
    kinds = {question.name: question for question in questions}

    def changed(row: SoftAnswers, given: Given) -> SoftAnswers:
        answers = dict(row.answers)
        for name, labels in given.items():
            tags, said = kinds[name].kind == "tags", answers.get(name)
            alone = _gold_alone(kinds[name].label_names, labels, tags=tags)
            answers[name] = alone if said is None else _with_gold(said, labels, gold.how, tags=tags)
        return msgspec.structs.replace(row, answers=answers)

    def new(text: Text, name: str, given: Given) -> SoftAnswers:
        digests: dict[str, Any] = {"teacher_digest": rows[0].teacher_digest, "task_digest": rows[0].task_digest}
        return changed(SoftAnswers(id=name, text=text.text, target=text.target, answers=dict.fromkeys(kinds), **digests), given)

    return _merge(rows, gold, share, (changed, new))


def _merge(
    rows: list[_Row], gold: GoldLabels, share: float, make: tuple[Callable[[_Row, Given], _Row], Callable[[Text, str, Given], _Row]]
) -> tuple[list[_Row], list[_Row], UsedGold]:
    """The rows in their order, and new ones behind them. Args: make, (a row changed by gold, a row of gold alone)."""
    changed, new = make
    wanted = {(text.text, text.target): given for text, given in zip(gold.texts, gold.given, strict=True) if given}
    training = {about: given for about, given in wanted.items() if not is_validation(about[0], share)}
    if not training:
        raise UserError(
            f"{gold.path}: all {len(wanted)} texts with a gold label are held out, so none would be trained on; add more"
        )
    made: list[_Row] = []
    touched: list[_Row] = []
    met = set()
    for row in rows:
        about = (row.text, row.target or None)
        if about in training:
            met.add(about)
            row = changed(row, training[about])
            touched.append(row)
        made.append(row)
    ids = {row.id for row in rows}
    for text in gold.texts:
        about = (text.text, text.target)
        if about in training and about not in met:
            row = new(text, text_id(*about) if text.id in ids else text.id, training[about])
            touched.append(row)
            made.append(row)
    counts = {"n_changed": len(met), "n_new": len(training) - len(met), "n_held_out": len(wanted) - len(training)}
    return made, touched, UsedGold(how=gold.how, file_digest=digest.of_path(gold.path), **counts)


def _gold_alone(names: list[str], given: Sequence[str], *, tags: bool) -> QuestionLabel:
    """What one person said, as a soft label of one vote."""
    votes = {name: int(name in given) for name in names}
    probs = {name: float(vote) for name, vote in votes.items()}
    return QuestionLabel(probs=probs, votes=votes, agreement=1.0, n_paths=1, entropy=0.0, label_mass=1.0, method=METHOD)


def _with_gold(said: QuestionLabel, given: Sequence[str], how: GoldUse, *, tags: bool) -> QuestionLabel:
    """A soft label with a person's in its place, or with a person who counts as much as all paths together."""
    alone = _gold_alone(list(said.probs), given, tags=tags)
    n_paths = max(1, said.n_paths)
    if how == "replace":
        votes = {name: vote * n_paths for name, vote in alone.votes.items()}
        return msgspec.structs.replace(
            alone, votes=votes, n_paths=n_paths, label_mass=said.label_mass, method=f"{said.method}+{METHOD}"
        )
    probs = {name: (p + alone.probs[name]) / 2 for name, p in said.probs.items()}
    votes = {name: n + alone.votes[name] * n_paths for name, n in said.votes.items()}
    if tags:
        agreement = sum(max(n, 2 * n_paths - n) for n in votes.values()) / (2 * n_paths * len(votes))
        spread = sum(entropy([p, 1 - p]) for p in probs.values())
    else:
        agreement, spread = max(votes.values()) / (2 * n_paths), entropy(list(probs.values()))
    return QuestionLabel(
        probs=probs, votes=votes, agreement=agreement, n_paths=2 * n_paths, entropy=spread, label_mass=said.label_mass,
        method=f"{said.method}+{METHOD}",
    )  # fmt: skip


def _label_of(row: SoftLabel) -> QuestionLabel:
    """What a row of one question says, as that of one among several."""
    return QuestionLabel(**{name: getattr(row, name) for name in QuestionLabel.__struct_fields__})


def _fields(label: QuestionLabel) -> dict[str, Any]:
    """The fields of a soft label that a row of one question has, too."""
    return {name: getattr(label, name) for name in QuestionLabel.__struct_fields__}


def trained_gold(checkpoint: Path, student: Student, questions: Sequence[Question] = ()) -> set[tuple[str, str | None]]:
    """(text, target) of those that a student was trained on with a gold label; scores on them would flatter it.

    Args:
        questions: of the task, where the student answers several.
    Raises:
        FormatError: if the checkpoint lacks its file of them, or it is malformed.
    """
    if student.used_gold is None:
        return set()
    path = checkpoint / GOLD_ROWS_FILE
    rows: Sequence[SoftLabel | SoftAnswers] = (
        read_soft_labels(path, labels=student.labels) if student.heads is None else read_soft_answers(path, questions)
    )
    return {(row.text, row.target or None) for row in rows}


def left_out_line(n_known: int, n: int) -> str:
    """A note on gold texts that are not scored."""
    return f"left out {n_known} of {n} gold texts: the student was trained on them with their gold labels"
