"""Calibrate a trained student on its held-out texts: vector scaling, temperature, thresholds, label sets, scores.

Axes: N texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores import metrics
from potstill.contract.scores.record import Scores
from potstill.contract.soft_label import SoftLabel
from potstill.trainer.calibration.label_sets import LabelSets, fit_label_sets
from potstill.trainer.calibration.temperature import Temperature, apply_temperature, match_teacher_entropy
from potstill.trainer.calibration.thresholds import Thresholds, fit_thresholds
from potstill.trainer.calibration.vector_scaling import VectorScaling, fit_vector_scaling, fold_into_last_layer
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.targets import majority_classes, target_matrix
from potstill.trainer.students.encoder import Encoder

N_PROOF = 64  # texts on which a changed last layer is checked


@dataclass(frozen=True)
class HeldOutCalibration:
    """The calibration of a student, and its scores with it."""

    temperature: Temperature
    vector: VectorScaling
    label_shares: dict[str, float]
    thresholds: Thresholds | None
    sets: LabelSets | None
    scores: dict[str, Scores]

    def as_text(self) -> str:
        """The lines of the report."""
        parts = [self.thresholds, self.sets]
        lines = [f"temperature {self.temperature.as_text()}; vector scaling {self.vector.as_text()}"]
        return "\n".join([*lines, *(part.as_text() for part in parts if part is not None)])


def calibrate_held_out(encoder: Encoder, labels: list[str], validation: list[SoftLabel], config: TrainConfig) -> HeldOutCalibration:
    """Calibrate the student on the held-out texts, and score it against the teacher's majority labels there.

    Args:
        encoder: trained; vector scaling, where it pays, goes into its last layer.
        labels: in output order.
        validation: at least one row, none of them trained on.
        config: holds the wanted precision and coverage.
    Raises:
        UserError: if there are too few texts for the wanted precision or coverage.
    """
    features = encoder.encode([(row.text, row.target) for row in validation])
    targets, majority = target_matrix(validation, labels), majority_classes(validation, labels)
    logits = encoder.logits(features).astype(np.float64)
    vector = fit_vector_scaling(logits, targets)
    if not vector.reason:
        vector = replace(vector, reason=fold_into_last_layer(encoder, vector, features[:N_PROOF]))
        logits = encoder.logits(features).astype(np.float64)
    temperature = match_teacher_entropy(logits, targets)
    probs = apply_temperature(logits, temperature.value)
    wanted, coverage = config.precision, config.coverage
    return HeldOutCalibration(
        temperature=temperature,
        vector=vector,
        label_shares=mean_shares(probs, labels),
        thresholds=None if wanted is None else fit_thresholds(probs, majority, labels, wanted, "teacher", config.promise),
        sets=None if coverage is None else fit_label_sets(probs, majority, coverage, "teacher", config.promise),
        scores={"validation": metrics.scores(probs, majority)},
    )


def mean_shares(probs: NDArray[np.float64], labels: list[str]) -> dict[str, float]:
    """Mean probability of each label, which is the share of texts that the student expects it on. Args: probs float [N, C]."""
    shares = probs.mean(axis=0)
    return dict(zip(labels, (shares / shares.sum()).tolist(), strict=True))
