"""Scores of a student of several questions on gold answers, question by question, beside its bundle and its teacher.

Axes: N texts, C outputs of all questions side by side, n texts with a gold answer to a question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.checkpoint import TASK_FILE, Student
from potstill.contract.errors import UserError
from potstill.contract.files import decode
from potstill.contract.interchange.notebook import Shown, text_table
from potstill.contract.questions.gold import parse_gold
from potstill.contract.questions.head import Head, ranges
from potstill.contract.questions.kind_scores import MAIN, difference_of, kind_metrics, scores_of
from potstill.contract.questions.probabilities import decided, joint_probs, tag_thresholds
from potstill.contract.questions.questionnaire import Questionnaire, questionnaire_from_json
from potstill.contract.questions.soft_answers import read_soft_answers
from potstill.contract.scores.record import Score, Scores
from potstill.contract.texts import Text, read_texts
from potstill.trainer.data.gold_labels import left_out_line
from potstill.trainer.evaluation.checkpoint_scores import check_targets
from potstill.trainer.students import encoder as students

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GoldAnswers:
    """Texts with the answers that people gave to some of the questions."""

    path: Path
    task: Questionnaire
    texts: list[Text]  # [N]
    answers: list[dict[str, list[str]]]  # [N], by question; one that is not answered is absent
    notes: tuple[str, ...] = ()

    def without(self, known: set[tuple[str, str | None]]) -> GoldAnswers:
        """Only the texts that a student was not trained on with a gold answer; raises UserError if none is left."""
        kept = [i for i, text in enumerate(self.texts) if (text.text, text.target) not in known]
        if len(kept) == len(self.texts):
            return self
        note = left_out_line(len(self.texts) - len(kept), len(self.texts))
        if not kept:
            raise UserError(f"{self.path}: {note}; give other gold texts")
        return replace(
            self, texts=[self.texts[i] for i in kept], answers=[self.answers[i] for i in kept], notes=(*self.notes, note)
        )  # fmt: skip

    def places(self, name: str) -> NDArray[np.int64]:
        """int64 [n]: the texts with an answer to the question."""
        return np.array([i for i, given in enumerate(self.answers) if name in given], dtype=np.int64)

    def classes(self, head: Head, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The gold answers of these texts: int64 [n], the label; of tags 0 or 1 [n, tags]."""
        given = [self.answers[i][head.name] for i in places.tolist()]
        if head.is_softmax:
            return np.array([head.labels.index(labels[0]) for labels in given], dtype=np.int64)
        return np.array([[int(name in labels) for name in head.labels] for labels in given], dtype=np.int64)


@dataclass(frozen=True)
class AnsweringSystem:
    """A system with its answers to all questions."""

    name: str
    heads: list[Head]  # labels, and of tags the thresholds from which they hold
    probs: _Floats  # [N, C]; a question that it does not answer about a text is NaN there
    note: str = ""


@dataclass(frozen=True)
class QuestionScores:
    """All systems on one question, on the n texts that have a gold answer and that all of them answer."""

    head: Head
    n: int
    scores: dict[str, Scores]  # by system
    student_minus: dict[str, Score]  # by other system: paired difference of the kind's main metric
    places: NDArray[np.int64]  # [n]
    gold: NDArray[np.int64]  # [n]; of tags 0 or 1 [n, tags]


@dataclass(frozen=True, repr=False)
class QuestionsComparison(Shown):
    """Scores of all systems on each question."""

    texts: list[Text]  # [N]
    answers: list[dict[str, list[str]]]  # [N], gold by question
    systems: list[AnsweringSystem]  # the student first
    questions: list[QuestionScores]
    notes: tuple[str, ...]

    def cells(self) -> list[list[str]]:
        """A row for each question and system: texts, and the main score of the question's kind with its interval."""
        rows = [
            [one.head.name, one.head.kind, system, str(one.n), MAIN[one.head.kind].replace("_", " "), _main_score(one, system)]
            for one in self.questions
            for system in one.scores
        ]
        return [["question", "kind", "system", "n", "score", "value"], *rows]

    def as_text(self) -> str:
        """The table of main scores; `comparison_text` has the others."""
        return "\n".join(text_table(self.cells()))


def _main_score(question: QuestionScores, system: str) -> str:
    """The main score of a system with its interval; a dash where there is none."""
    score = question.scores[system].get(MAIN[question.head.kind])
    return "-" if score is None else score.as_text()


def task_of(checkpoint: Path) -> Questionnaire:
    """The task that a student of several questions was trained on; raises FormatError."""
    path = checkpoint / TASK_FILE
    return questionnaire_from_json(path, decode.read_bytes(path))


def read_gold_answers(path: Path, checkpoint: Path, student: Student) -> GoldAnswers:
    """Read a file of texts with gold answers.

    Raises:
        FormatError: if the file is missing or malformed, or an answer does not fit its question.
    """
    task, read = task_of(checkpoint), read_texts(path, target=student.target, gold=True)
    answers = [parse_gold(path, f"text {text.id!r}", task.questions, text.gold) for text in read.texts]
    notes = [line] if (line := read.skipped_line()) else []
    return GoldAnswers(path, task, read.texts, answers, tuple(notes))


def student_answers(checkpoint: Path, student: Student, texts: Sequence[Text]) -> _Floats:
    """float64 [N, C]: the calibrated probabilities of all questions, side by side.

    Raises:
        FormatError: if the folder is damaged.
        UserError: if a text lacks a target that the student needs, or has one that it cannot read.
    """
    check_targets(student, texts)
    encoder = students.from_checkpoint(
        checkpoint, student.labels, max_tokens=student.max_tokens, pair=student.target, family=student.family
    )
    asked = [(text.text, text.target if student.target else None) for text in texts]
    return joint_probs(student.heads or [], encoder.logits(encoder.encode(asked)))


def teacher_answers(path: Path, student: Student, gold: GoldAnswers) -> AnsweringSystem:
    """The teacher's soft labels of the gold texts, matched by text and target.

    Raises:
        FormatError: if the file is malformed.
        UserError: if it holds none of the texts.
    """
    rows = {(row.text, row.target or None): row for row in reversed(read_soft_answers(path, gold.task.questions))}
    found = [rows.get((text.text, text.target)) for text in gold.texts]
    if not any(found):
        raise UserError(
            f"{path}: holds none of the {len(gold.texts)} gold texts; label them with: potstill label --gold {gold.path}"
        )
    heads = [Head(name=head.name, kind=head.kind, labels=head.labels, values=head.values) for head in student.heads or []]
    probs = np.full((len(found), len(student.labels)), np.nan)
    for head, own in zip(heads, ranges(heads), strict=True):
        for i, row in enumerate(found):
            label = row.answers.get(head.name) if row else None
            if label is not None:
                probs[i, own] = [label.probs[name] for name in head.labels]
    n_lacking = sum(row is None for row in found)
    return AnsweringSystem("teacher", heads, probs, f"lacks {n_lacking} of the texts" if n_lacking else "")


def compare_questions(systems: Sequence[AnsweringSystem], gold: GoldAnswers) -> QuestionsComparison:
    """Score every system on every question, and compare the first, the student, with each of the others.

    A question without a gold answer is left out, and a note says so.

    Args:
        systems: at least one; names are unique.
        gold: the texts that they answered.
    Raises:
        UserError: if no question has a gold answer.
    """
    found, notes = [], list(gold.notes)
    for head, own in zip(systems[0].heads, ranges(systems[0].heads), strict=True):
        places = gold.places(head.name)
        answered = np.all([~np.isnan(system.probs[:, own]).any(axis=1) for system in systems], axis=0)
        places = places[answered[places]]
        if not len(places):
            notes.append(f"no text has a gold answer to {head.name}")
            continue
        found.append(_scores(systems, head, own, places, gold))
    if not found:
        raise UserError(f"{gold.path}: no gold answer to any of the questions; add some")
    return QuestionsComparison(gold.texts, gold.answers, list(systems), found, tuple(notes))


def _scores(
    systems: Sequence[AnsweringSystem], head: Head, own: slice, places: NDArray[np.int64], gold: GoldAnswers
) -> QuestionScores:
    """One question."""
    classes = gold.classes(head, places)
    scores, scored = {}, {}
    for system in systems:
        mine = next(one for one in system.heads if one.name == head.name)
        probs = system.probs[places][:, own]
        scores[system.name] = scores_of(head.kind, probs, classes, values=head.values, thresholds=tag_thresholds(mine))
        # each by its own thresholds: what is said of a tag is its probability, 0 or 1
        scored[system.name] = probs if head.is_softmax else decided(mine, probs).astype(np.float64)
    main = kind_metrics(head.kind, values=head.values)[MAIN[head.kind]]
    student, *others = [system.name for system in systems]
    against = {name: difference_of(main, scored[student], scored[name], classes) for name in others}
    return QuestionScores(head, len(places), scores, against, places, classes)
