"""Choose a checkpoint's thresholds and label sets on gold labels; of a student of several questions, question by question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.checkpoint import STUDENT_FILE, Student, read_student, student_json
from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.interchange.notebook import Shown
from potstill.contract.questions.head import Head, ranges
from potstill.contract.scores.bounds import Promise, Rule
from potstill.contract.texts import Text
from potstill.trainer.calibration.label_sets import LabelSets, check_coverage, fit_label_sets
from potstill.trainer.calibration.thresholds import Thresholds, check_precision, fit_thresholds
from potstill.trainer.evaluation.checkpoint_scores import gold_classes, predict
from potstill.trainer.evaluation.questions import GoldAnswers, student_answers
from potstill.trainer.joint.tags import TagThresholds, best_f1_on_gold, fit_precise_tags


@dataclass(frozen=True)
class ConfidenceConfig:
    """The wanted precision, coverage or both, and of which questions.

    Raises:
        UserError: if a value is out of range, or nothing is wanted.
    """

    precision: float | None = None  # share of right answers among those not abstained from, above 0 and at most 1
    coverage: float | None = None  # share of label sets that hold the label, above 0 and below 1
    rule: Rule = Promise.rule
    confidence: float = Promise.confidence  # of a bound
    best_f1: bool = False  # of tags: each holds from the probability of the best F1 on, instead of that of a precision
    questions: tuple[str, ...] = ()  # of several: those that are calibrated; none: all

    def __post_init__(self) -> None:
        """Check every value; raises UserError."""
        if self.precision is None and self.coverage is None and not self.best_f1:
            raise UserError("neither precision nor coverage is given; add, for example, --precision 0.9 or --coverage 0.9")
        if self.precision is not None:
            check_precision(self.precision)
        if self.coverage is not None:
            check_coverage(self.coverage)
        Promise(self.rule, self.confidence)


@dataclass(frozen=True, repr=False)
class ConfidenceReport(Shown):
    """The chosen thresholds and label sets."""

    checkpoint: Path
    thresholds: Thresholds | None
    sets: LabelSets | None

    def as_text(self) -> str:
        """The thresholds, the sets, and what to do next."""
        parts = [part.as_text() for part in (self.thresholds, self.sets) if part is not None]
        return "\n".join([*parts, f"wrote {self.checkpoint / STUDENT_FILE}; for a bundle that answers so: potstill export"])


def calibrate_on_gold(checkpoint: str | Path, gold_texts: list[Text], config: ConfidenceConfig) -> ConfidenceReport:
    """Choose thresholds, label sets or both on gold texts, and write them into the checkpoint's `student.json`.

    What is not configured stays as it is. From then on, scores on the same texts overestimate the student.

    Args:
        gold_texts: each has a gold label, none was trained on; at least ten for a precision.
    Raises:
        FormatError: if the folder is not a checkpoint, or is damaged.
        UserError: if a gold label is missing or not one of the student's, a target is missing or unexpected, there are too few
            texts, or the file cannot be written; the checkpoint then stays as it was.
    """
    checkpoint = Path(checkpoint)
    student = read_student(checkpoint)
    for option, given in (("--best-f1", config.best_f1), ("--question", config.questions)):
        if given:
            raise UserError(f"{checkpoint}: answers one choice, and {option} is for a student of several questions; leave it out")
    gold = gold_classes(student, gold_texts)
    probs = predict(checkpoint, gold_texts)
    thresholds, sets, promise = None, None, Promise(config.rule, config.confidence)
    if config.precision is not None:
        thresholds = fit_thresholds(probs, gold, student.labels, config.precision, "gold", promise)
        student = msgspec.structs.replace(student, thresholds=thresholds.by_label, precision=thresholds.precision)
    if config.coverage is not None:
        sets = fit_label_sets(probs, gold, config.coverage, "gold", promise)
        student = msgspec.structs.replace(student, conformal=sets.conformal)
    atomic.write_file(checkpoint / STUDENT_FILE, student_json(student))
    return ConfidenceReport(checkpoint, thresholds, sets)


Chosen = Thresholds | TagThresholds | LabelSets


@dataclass(frozen=True, repr=False)
class QuestionsConfidence(Shown):
    """What was chosen for each of several questions."""

    checkpoint: Path
    chosen: dict[str, list[Chosen]]  # by question; none: it stays as it was
    notes: tuple[str, ...] = ()

    def as_text(self) -> str:
        """Each question's thresholds and sets, and what to do next."""
        lines = [f"note: {note}" for note in self.notes]
        for name, parts in self.chosen.items():
            lines += [f"{name}:", *(f"  {line}" for part in parts for line in part.as_text().splitlines())]
        return "\n".join([*lines, f"wrote {self.checkpoint / STUDENT_FILE}; for a bundle that answers so: potstill export"])


def calibrate_questions_on_gold(
    checkpoint: Path, student: Student, gold: GoldAnswers, config: ConfidenceConfig
) -> QuestionsConfidence:
    """Choose thresholds, label sets or both for each of several questions, and write them into `student.json`.

    A question is calibrated on the texts that have a gold answer to it. Of choice, yesno and degree the precision is that of every
    label's answers; of tags that of saying that a tag holds. The error of a bound is that of each question by itself. What is not
    configured, and questions without gold, stay as they are.

    Args:
        student: of that checkpoint, with heads.
        gold: none of the texts was trained on.
    Raises:
        FormatError: if the folder is damaged.
        UserError: if a question is unknown or has too few gold answers, nothing is wanted of any question, or the file cannot be
            written; the checkpoint then stays as it was.
    """
    heads = student.heads or []
    wanted = _wanted(heads, config)
    probs = student_answers(checkpoint, student, gold.texts)
    chosen: dict[str, list[Chosen]] = {}
    notes, fitted = list(gold.notes), list[Head]()
    for head, own in zip(heads, ranges(heads), strict=True):
        places = gold.places(head.name)
        if head.name in wanted and len(places):
            try:
                head, chosen[head.name] = _fit_head(head, probs[places, own], gold.classes(head, places), config)
            except UserError as error:
                raise UserError(f"{head.name}: {error}; or name the other questions with --question") from error
        elif head.name in wanted:
            notes.append(f"no text has a gold answer to {head.name}, so it stays as it is")
        fitted.append(head)
    if not chosen:
        raise UserError(f"{gold.path}: no gold answer to {', '.join(wanted)}; add some")
    atomic.write_file(checkpoint / STUDENT_FILE, student_json(msgspec.structs.replace(student, heads=fitted)))
    return QuestionsConfidence(checkpoint, chosen, tuple(notes))


def _wanted(heads: list[Head], config: ConfidenceConfig) -> list[str]:
    """The questions that something is to be chosen for; raises UserError if there is none, or one is unknown."""
    names = [head.name for head in heads]
    for name in config.questions:
        if name not in names:
            raise UserError(f"--question is {name!r}; the student answers {', '.join(names)}")
    asked = [head for head in heads if not config.questions or head.name in config.questions]
    found = [head.name for head in asked if _is_wanted(head, config)]
    if not found:
        kinds = ", ".join(f"{head.name} ({head.kind})" for head in asked)
        raise UserError(
            f"nothing is wanted of {kinds}: --precision is for every kind, --best-f1 for tags, --coverage for the other kinds"
        )
    return found


def _is_wanted(head: Head, config: ConfidenceConfig) -> bool:
    """Whether a question of this kind takes any of what is wanted."""
    return config.precision is not None or (config.coverage is not None if head.is_softmax else config.best_f1)


def _fit_head(
    head: Head, probs: NDArray[np.float64], gold: NDArray[np.int64], config: ConfidenceConfig
) -> tuple[Head, list[Chosen]]:
    """One question with what was chosen for it. Args: probs float [n, C]; gold int [n], of tags 0 or 1 [n, T]."""
    promise, found = Promise(config.rule, config.confidence), list[Chosen]()
    if not head.is_softmax:
        tags = (
            best_f1_on_gold(probs, gold, head.labels)
            if config.best_f1 or config.precision is None
            else fit_precise_tags(probs, gold, head.labels, config.precision, promise)
        )
        return msgspec.structs.replace(head, thresholds=tags.by_tag, precision=tags.precision), [tags]
    if config.precision is not None:
        made = fit_thresholds(probs, gold, head.labels, config.precision, "gold", promise)
        head, found = msgspec.structs.replace(head, thresholds=made.by_label, precision=made.precision), [made]
    if config.coverage is not None:
        sets = fit_label_sets(probs, gold, config.coverage, "gold", promise)
        head, found = msgspec.structs.replace(head, conformal=sets.conformal), [*found, sets]
    return head, found
