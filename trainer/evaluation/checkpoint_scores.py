"""Answers of a checkpoint, and their scores on gold labels.

Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.checkpoint import Student, read_student
from potstill.contract.errors import UserError
from potstill.contract.scores import metrics
from potstill.contract.scores.bounds import SHIFT_LEVEL
from potstill.contract.scores.prior_shift import MIN_TEXTS, adjusted, estimate
from potstill.contract.scores.record import Scores
from potstill.contract.system.progress import ANSWER_TEXTS
from potstill.contract.texts import Text
from potstill.trainer.calibration.temperature import calibrated_probs
from potstill.trainer.students import encoder as students


def predict(checkpoint: str | Path, texts: list[Text]) -> NDArray[np.float64]:
    """float64 [N, C]: the student's calibrated probabilities, with labels in the order of its `student.json`; rows sum to 1.

    Raises:
        FormatError: if the folder is not a checkpoint, or is damaged.
        UserError: if it answers several questions, or a text lacks a target that the student needs, or has one that it cannot read.
    """
    checkpoint = Path(checkpoint)
    return _predict(checkpoint, read_student(checkpoint), texts)


def evaluate(checkpoint: str | Path, gold_texts: list[Text], *, prior_shift: bool = False) -> Scores:
    """Accuracy, macro-F1, log-loss, Brier score and calibration error on gold labels, with 95 % intervals.

    Args:
        gold_texts: at least one; each has a gold label.
        prior_shift: whether the probabilities are first adapted to the label shares of these texts, as `potstill adapt` does; the
            gold labels are not used for that.
    Raises:
        FormatError: if the folder is not a checkpoint, or is damaged.
        UserError: if a gold label is missing or not one of the student's, a target is missing or unexpected, or label shares
            cannot be estimated.
    """
    checkpoint = Path(checkpoint)
    student = read_student(checkpoint)
    gold = gold_classes(student, gold_texts)
    probs = _predict(checkpoint, student, gold_texts)
    return metrics.scores(shifted(checkpoint, student, probs) if prior_shift else probs, gold)


def gold_classes(student: Student, texts: list[Text]) -> NDArray[np.int64]:
    """int64 [N]: the class of every gold label; raises UserError for the first text without one, or with an unknown one."""
    if not texts:
        raise UserError("there is no text to evaluate; give at least one with a gold label")
    allowed = ", ".join(student.labels)
    for text in texts:
        if text.gold is None:
            raise UserError(f"text {text.id!r} has no gold label; allowed: {allowed}")
        if text.gold not in student.labels:
            raise UserError(f"text {text.id!r} has the gold label {text.gold!r}, unknown to the student; allowed: {allowed}")
    return np.array([student.labels.index(text.gold or "") for text in texts], dtype=np.int64)


def shifted(checkpoint: Path, student: Student, probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [N, C]: the answers of a bundle adapted to these texts; unchanged if chance explains the difference of label shares.

    Args:
        probs: float64 [N, C], the student's answers.
    Raises:
        UserError: if the checkpoint has no label shares, or there are too few texts.
    """
    if student.label_shares is None:
        raise UserError(f"{checkpoint}: its student.json has no label_shares; train it again")
    if len(probs) < MIN_TEXTS:
        raise UserError(f"there are {len(probs)} texts; label shares need at least {MIN_TEXTS}")
    shift = estimate(probs, np.array([student.label_shares[name] for name in student.labels]))
    return adjusted(probs, shift) if shift.p_value < SHIFT_LEVEL else probs


def _predict(checkpoint: Path, student: Student, texts: list[Text]) -> NDArray[np.float64]:
    """float64 [N, C]: calibrated probabilities."""
    if student.heads is not None:
        questions = ", ".join(f"{head.name} ({head.kind})" for head in student.heads)
        raise UserError(f"{checkpoint}: answers {questions}, and this is for one choice; score each with potstill evaluate")
    check_targets(student, texts)
    encoder = students.from_checkpoint(
        checkpoint, student.labels, max_tokens=student.max_tokens, pair=student.target, family=student.family
    )
    asked = [(text.text, text.target if student.target else None) for text in texts]
    return calibrated_probs(encoder, asked, student.temperature, ANSWER_TEXTS)


def check_targets(student: Student, texts: Sequence[Text]) -> None:
    """Raise UserError for a text whose target is missing or unexpected."""
    for text in texts:
        if student.target and not text.target:
            raise UserError(f"text {text.id!r} has no target, but the student was trained on texts with one; give it one")
        if not student.target and text.target:
            raise UserError(f"text {text.id!r} has a target, but the student was trained on texts alone; leave the target out")
