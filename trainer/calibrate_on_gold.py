"""A checkpoint's thresholds and label sets, chosen on labels that people gave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from potstill.contract.checkpoint import STUDENT_FILE, read_student, student_json
from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.texts import Text
from potstill.trainer.calibration.label_sets import LabelSets, check_coverage, fit_label_sets
from potstill.trainer.calibration.thresholds import Thresholds, check_precision, fit_thresholds
from potstill.trainer.evaluation.evaluate import gold_classes, predict


@dataclass(frozen=True)
class ConfidenceConfig:
    """What is wanted of the answers; at least one of the two.

    Raises:
        UserError: naming the value that is out of its range, or if neither is given.
    """

    precision: float | None = None  # share of right answers among those not abstained from, above 0 and at most 1
    coverage: float | None = None  # share of label sets that hold the label, above 0 and below 1

    def __post_init__(self) -> None:
        """Refuse what cannot be reached; raises UserError."""
        if self.precision is None and self.coverage is None:
            raise UserError("nothing is wanted; give a precision, such as --precision 0.9, or a coverage, such as --coverage 0.9")
        if self.precision is not None:
            check_precision(self.precision)
        if self.coverage is not None:
            check_coverage(self.coverage)


@dataclass(frozen=True)
class ConfidenceReport:
    """What was chosen."""

    checkpoint: Path
    thresholds: Thresholds | None
    sets: LabelSets | None

    def as_text(self) -> str:
        """The thresholds, the sets, and what to do next."""
        parts = [part.as_text() for part in (self.thresholds, self.sets) if part is not None]
        return "\n".join([*parts, f"wrote {self.checkpoint / STUDENT_FILE}; to have a bundle answer so: potstill export"])


def calibrate(checkpoint: str | Path, gold_texts: list[Text], config: ConfidenceConfig) -> ConfidenceReport:
    """Choose thresholds, label sets or both on gold texts, and write them into the checkpoint's `student.json`.

    What is not asked for stays as it is. Scores of the student on the same texts flatter it from then on.

    Args:
        gold_texts: at least ten for a precision; each has a gold label. None of them may have been trained on.
        config: what is wanted.
    Raises:
        FormatError: if the folder is no checkpoint, or is damaged.
        UserError: if a gold label is missing or none of the student's, a target is missing or unexpected, there are too few texts,
            or the file cannot be written; the checkpoint is as it was then.
    """
    checkpoint = Path(checkpoint)
    student = read_student(checkpoint)
    gold = gold_classes(student, gold_texts)
    probs = predict(checkpoint, gold_texts)
    thresholds = sets = None
    if config.precision is not None:
        thresholds = fit_thresholds(probs, gold, student.labels, config.precision, "gold")
        student = msgspec.structs.replace(student, thresholds=thresholds.by_label, precision=thresholds.precision)
    if config.coverage is not None:
        sets = fit_label_sets(probs, gold, config.coverage, "gold")
        student = msgspec.structs.replace(student, conformal=sets.conformal)
    atomic.write_file(checkpoint / STUDENT_FILE, student_json(student))
    return ConfidenceReport(checkpoint, thresholds, sets)
