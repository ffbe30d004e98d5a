"""Target distributions: what a student is trained to answer for a soft label.

Axes: N texts, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.contract.soft_label import SoftLabel


def majority_target(row: SoftLabel, labels: list[str]) -> list[float]:
    """1 for the majority label and 0 for every other, [C]. Args: labels in output order."""
    return [float(name == row.majority) for name in labels]


def distribution_target(row: SoftLabel, labels: list[str]) -> list[float]:
    """The soft label's probabilities, [C]; they sum to 1. Args: labels in output order."""
    return [row.probs[name] for name in labels]


def target_matrix(rows: Sequence[SoftLabel], labels: list[str]) -> NDArray[np.float64]:
    """float64 [N, C]: the soft labels' probabilities; rows sum to 1. Args: labels in output order."""
    return np.array([distribution_target(row, labels) for row in rows], dtype=np.float64)


def majority_classes(rows: Sequence[SoftLabel], labels: list[str]) -> NDArray[np.int64]:
    """int64 [N]: the class of each row's majority label. Args: labels in output order."""
    return np.array([labels.index(row.majority) for row in rows], dtype=np.int64)


def smoothed(target: list[float], share: float) -> list[float]:
    """Label smoothing: the target with a share of it, 0 to 1, spread evenly over all labels, [C].

    Source: Szegedy et al. 2015, arXiv:1512.00567, section 7.
    """
    return [(1 - share) * p + share / len(target) for p in target]


def mixed_target(target: list[float], ensemble: NDArray[np.float64], teacher_weight: float) -> list[float]:
    """The teacher's target and the ensemble's answer, weighted, [C].

    Args:
        target: the teacher's, [C].
        ensemble: float [C], mean answer of the ensemble.
        teacher_weight: 0 to 1; 1 leaves the target as it is.
    """
    return [teacher_weight * own + (1 - teacher_weight) * float(mean) for own, mean in zip(target, ensemble, strict=True)]


def certainty(row: SoftLabel, n_labels: int) -> float:
    """The weight of a soft label in the loss, 0 to 1: one minus its entropy over the entropy of even shares.

    Args:
        row: its entropy is in nats.
        n_labels: at least 2.
    """
    return min(1.0, max(0.0, 1 - row.entropy / math.log(n_labels)))
