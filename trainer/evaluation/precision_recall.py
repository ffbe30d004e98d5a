"""What a student's precision is where it finds a given share of a label's texts, and over all such shares.

Axes: N texts, C classes. Every label is looked at by itself, against all others, and the labels that occur are averaged evenly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

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
