"""What a trained student's probabilities are made to mean, on the texts held out: calibration, thresholds, label sets, scores.

Axes: N texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores import metrics
from potstill.contract.scores.record import Scores
from potstill.contract.soft_label import SoftLabel
from potstill.trainer.calibration.label_sets import LabelSets, fit_label_sets
from potstill.trainer.calibration.temperature import Temperature, as_sure_as_teacher, calibrated
from potstill.trainer.calibration.thresholds import Thresholds, fit_thresholds
from potstill.trainer.calibration.vector_scaling import VectorScaling, fit_vector_scaling, fold
from potstill.trainer.config import TrainConfig
from potstill.trainer.students.encoder import Encoder
from potstill.trainer.training.losses import distribution_target, majority_target

N_PROOF = 64  # texts on which a changed last layer is proved


@dataclass(frozen=True)
class Judgement:
    """How the student's logits are read, and what that is worth."""

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


def judge(encoder: Encoder, labels: list[str], validation: list[SoftLabel], config: TrainConfig) -> Judgement:
    """Calibrate the student on the texts held out, and score it against the teacher's majority there.

    Args:
        encoder: trained; vector scaling, where it pays, goes into its last layer.
        labels: in output order.
        validation: at least one row, none of them trained on.
        config: says which precision and coverage are wanted.
    Raises:
        UserError: if there are too few texts for the wanted precision or coverage.
    """
    features = encoder.encode([(row.text, row.target) for row in validation])
    targets = np.array([distribution_target(row, labels) for row in validation])
    majority = np.array([majority_target(row, labels) for row in validation]).argmax(axis=1)
    logits = encoder.logits(features).astype(np.float64)
    vector = fit_vector_scaling(logits, targets)
    if not vector.reason:
        if problem := fold(encoder, vector, features[:N_PROOF]):
            vector = VectorScaling(vector.factors, vector.bias, vector.gain, vector.error, problem)
        logits = encoder.logits(features).astype(np.float64)
    temperature = as_sure_as_teacher(logits, targets)
    probs = calibrated(logits, temperature.value)
    return Judgement(
        temperature=temperature,
        vector=vector,
        label_shares=mean_shares(probs, labels),
        thresholds=None if config.precision is None else fit_thresholds(probs, majority, labels, config.precision, "teacher"),
        sets=None if config.coverage is None else fit_label_sets(probs, majority, config.coverage, "teacher"),
        scores={"validation": metrics.scores(probs, majority)},
    )


def mean_shares(probs: NDArray[np.float64], labels: list[str]) -> dict[str, float]:
    """By label: its mean probability, which is what the student takes to be the label's share. Args: probs float [N, C]."""
    shares = probs.mean(axis=0)
    return dict(zip(labels, (shares / shares.sum()).tolist(), strict=True))
