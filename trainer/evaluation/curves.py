"""The curves of a report as numbers: precision against recall, and confidence against how often it was right.

Axes: N texts, K points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores.metrics import N_BINS
from potstill.trainer.calibration.thresholds import wilson


@dataclass(frozen=True)
class PrecisionRecall:
    """What a label's threshold buys: one point for every probability that occurs, from the strictest to the loosest."""

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
        is_label: bool [N], whether the label is the gold one, at least once.
        given: bool [N], whether the label is really answered, threshold and all.
    """
    order = np.argsort(-probs, kind="stable")
    sorted_probs, hits = probs[order], np.cumsum(is_label[order])
    last = np.flatnonzero(np.append(np.diff(sorted_probs) != 0, True))  # equals are above a threshold together
    right = int((given & is_label).sum())
    chosen = (right / int(given.sum()), right / int(is_label.sum())) if given.any() else None
    return PrecisionRecall(
        label=label,
        n=int(is_label.sum()),
        thresholds=sorted_probs[last],
        precision=hits[last] / (last + 1),
        recall=hits[last] / hits[-1],
        chosen=chosen,
    )


@dataclass(frozen=True)
class Bin:
    """Answers of like confidence."""

    low: float
    high: float
    n: int
    confidence: float  # mean probability of the answers, 0 to 1
    accuracy: float  # share of right ones
    interval: tuple[float, float]  # 95 %, of that share


def reliability(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> list[Bin]:
    """The bins of the expected calibration error that hold a text. Args: probs float [N, C]; gold int [N]."""
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == gold
    places = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        n, n_right = int(inside.sum()), int(right[inside].sum())
        low, high = place / N_BINS, (place + 1) / N_BINS
        found.append(Bin(low, high, n, float(confidence[inside].mean()), n_right / n, wilson(n_right, n)))
    return found


def confusion(gold: NDArray[np.int64], answers: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """int64 [C, C]: texts by gold class (row) and answered class (column). Args: gold, answers int [N], below ``n_classes``."""
    return np.bincount(gold * n_classes + answers, minlength=n_classes**2).reshape(n_classes, n_classes)


Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def curve(probs: NDArray[np.float64], wanted: NDArray[np.bool_]) -> Curve:
    """(precision, recall) at every distinct threshold, recall rising.

    Args:
        probs: float [N], of the label.
        wanted: bool [N], whether the text has it; at least one does.
    """
    order = np.argsort(-probs, kind="stable")
    last_of_equals = np.append(np.diff(probs[order]) != 0, True)  # texts of one probability are answered together
    hits = np.cumsum(wanted[order])[last_of_equals]
    answered = (np.flatnonzero(last_of_equals) + 1).astype(np.float64)
    return hits / answered, hits / wanted.sum()


def precision_at_recall(probs: NDArray[np.float64], gold: NDArray[np.int64], recall: float) -> float:
    """Highest precision among thresholds that reach the recall, 0 to 1; mean over labels.

    Args: probs float [N, C]; gold int [N].
    """
    return _mean(probs, gold, lambda precisions, recalls: float(precisions[recalls >= recall - 1e-12].max()))


def average_precision(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
    """Area under the precision-recall curve as a sum of steps, 0 to 1; mean over labels. Args: probs float [N, C]; gold int [N].

    Straight lines between the points would promise more than any threshold keeps.
    Source: Davis, Goadrich 2006, "The relationship between precision-recall and ROC curves".
    """
    return _mean(probs, gold, lambda precisions, recalls: float(np.sum(np.diff(recalls, prepend=0) * precisions)))


def _mean(probs: NDArray[np.float64], gold: NDArray[np.int64], measure: Callable[..., float]) -> float:
    """The measure's mean over the labels that some text has."""
    values = [measure(*curve(probs[:, label], gold == label)) for label in range(probs.shape[1]) if (gold == label).any()]
    return float(np.mean(values))
