"""Area under the ROC curve: how often a text of one side has a higher score than one of the other side.

Axis: N texts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores.metrics import N_RESAMPLES
from potstill.contract.scores.record import Score


def auc_over_folds(scores: NDArray[np.float64], positive: NDArray[np.bool_], folds: NDArray[np.int64], *, seed: int = 0) -> Score:
    """The mean over folds of the area, 0 to 1, with its 95 % percentile bootstrap interval over texts.

    Only texts of one fold are compared with each other: those of other folds were scored by another classifier. Every draw takes as
    many texts of each side of each fold as there are; the classifiers stay.

    Args:
        scores: float [N], finite, higher for what is more probably positive.
        positive: bool [N].
        folds: int [N]; each fold holds texts of both sides.
    Source: Hanley, McNeil 1982, Radiology 143(1): the area is the share of pairs in the right order, equals counted half.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(folds)
    value, draws = 0.0, np.zeros(N_RESAMPLES)
    for fold in names:
        inside = folds == fold
        wins = _wins(scores[inside & positive], scores[inside & ~positive])
        value += float(wins.mean())
        n_rows, n_columns = wins.shape
        rows = rng.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=N_RESAMPLES) / n_rows  # [draws, rows], sums of 1
        columns = rng.multinomial(n_columns, np.full(n_columns, 1 / n_columns), size=N_RESAMPLES) / n_columns
        draws += ((rows @ wins) * columns).sum(axis=1)
    low, high = np.percentile(draws / len(names), [2.5, 97.5])
    return Score(value=value / len(names), low=float(low), high=float(high), n=len(scores))


def _wins(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """float [len(first), len(second)]: 1 where the first is higher, 0.5 where they are equal, else 0."""
    return (np.sign(first[:, None] - second[None, :]) + 1) / 2
