"""Precision-recall curves, reliability by confidence, and the confusion matrix.

Axes: N texts, K distinct thresholds, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores.metrics import N_BINS
from potstill.trainer.calibration.thresholds import wilson

# --- precision and recall


def curve(probs: NDArray[np.float64], wanted: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
    """(thresholds, precision, recall), each float64 [K], at every distinct probability from the highest to the lowest.

    Args:
        probs: float [N], of the label.
        wanted: bool [N], whether the text has the label; at least one does.
    """
    order = np.argsort(-probs, kind="stable")
    falling = probs[order]
    last_of_equals = np.flatnonzero(np.append(np.diff(falling) != 0, True))  # texts of one probability are answered together
    hits = np.cumsum(wanted[order])[last_of_equals]
    return falling[last_of_equals], hits / (last_of_equals + 1), hits / wanted.sum()


@dataclass(frozen=True)
class PrecisionRecall:
    """The precision-recall curve of a label, from the highest threshold to the lowest."""

    label: str
    n: int  # texts whose gold label it is
    thresholds: NDArray[np.float64]  # [K], falling
    precision: NDArray[np.float64]  # [K], of the texts at or above the threshold
    recall: NDArray[np.float64]  # [K], rising
    chosen: tuple[float, float] | None  # (precision, recall) of the answers that are really given; None: none is given

    @property
    def area(self) -> float:
        """Area under the curve as average precision, 0 to 1: the sum of precision times gain in recall, no interpolation."""
        return float(np.sum(np.diff(self.recall, prepend=0.0) * self.precision))


def precision_recall(
    label: str, probs: NDArray[np.float64], is_label: NDArray[np.bool_], given: NDArray[np.bool_]
) -> PrecisionRecall:
    """The curve of one label.

    Args:
        probs: float [N], of the label.
        is_label: bool [N], whether the label is the gold one; true at least once.
        given: bool [N], whether the label is really answered, thresholds included.
    """
    thresholds, precision, recall = curve(probs, is_label)
    n, right = int(is_label.sum()), int((given & is_label).sum())
    chosen = (right / int(given.sum()), right / n) if given.any() else None
    return PrecisionRecall(label, n, thresholds, precision, recall, chosen)


def precision_at_recall(probs: NDArray[np.float64], gold: NDArray[np.int64], recall: float) -> float:
    """Highest precision among thresholds that reach the recall, 0 to 1; mean over labels.

    Args: probs float [N, C]; gold int [N].
    """
    return _mean(probs, gold, lambda precisions, recalls: float(precisions[recalls >= recall - 1e-12].max()))


def average_precision(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
    """Area under the precision-recall curve as a sum of steps, 0 to 1; mean over labels. Args: probs float [N, C]; gold int [N].

    Straight lines between the points would be too optimistic.
    Source: Davis, Goadrich 2006, "The relationship between precision-recall and ROC curves".
    """
    return _mean(probs, gold, lambda precisions, recalls: float(np.sum(np.diff(recalls, prepend=0) * precisions)))


def _mean(probs: NDArray[np.float64], gold: NDArray[np.int64], measure: Callable[..., float]) -> float:
    """Mean of a measure of the curve over the labels that occur."""
    values = [measure(*curve(probs[:, label], gold == label)[1:]) for label in range(probs.shape[1]) if (gold == label).any()]
    return float(np.mean(values))


# --- reliability and confusion


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers of similar confidence."""

    low: float
    high: float
    n: int
    confidence: float  # mean probability of the answers, 0 to 1
    accuracy: float  # share of right answers
    interval: tuple[float, float]  # 95 %, of the accuracy


def reliability(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> list[ReliabilityBin]:
    """The non-empty bins of the expected calibration error. Args: probs float [N, C]; gold int [N]."""
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == gold
    places = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        n, n_right = int(inside.sum()), int(right[inside].sum())
        low, high = place / N_BINS, (place + 1) / N_BINS
        found.append(ReliabilityBin(low, high, n, float(confidence[inside].mean()), n_right / n, wilson(n_right, n)))
    return found


def confusion(gold: NDArray[np.int64], answers: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """int64 [C, C]: texts by gold class (row) and answered class (column). Args: gold, answers int [N], below ``n_classes``."""
    return np.bincount(gold * n_classes + answers, minlength=n_classes**2).reshape(n_classes, n_classes)
