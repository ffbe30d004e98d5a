"""Choose a checkpoint's thresholds and label sets on gold labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from potstill.contract.checkpoint import STUDENT_FILE, read_student, student_json
from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.scores.bounds import Promise, Rule
from potstill.contract.texts import Text
from potstill.trainer.calibration.label_sets import LabelSets, check_coverage, fit_label_sets
from potstill.trainer.calibration.thresholds import Thresholds, check_precision, fit_thresholds
from potstill.trainer.evaluation.checkpoint_scores import gold_classes, predict


@dataclass(frozen=True)
class ConfidenceConfig:
    """The wanted precision, coverage or both.

    Raises:
        UserError: if a value is out of range, or neither is given.
    """

    precision: float | None = None  # share of right answers among those not abstained from, above 0 and at most 1
    coverage: float | None = None  # share of label sets that hold the label, above 0 and below 1
    rule: Rule = Promise.rule
    confidence: float = Promise.confidence  # of a bound

    def __post_init__(self) -> None:
        """Check every value; raises UserError."""
        if self.precision is None and self.coverage is None:
            raise UserError("neither precision nor coverage is given; add, for example, --precision 0.9 or --coverage 0.9")
        if self.precision is not None:
            check_precision(self.precision)
        if self.coverage is not None:
            check_coverage(self.coverage)
        Promise(self.rule, self.confidence)


@dataclass(frozen=True)
class ConfidenceReport:
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
