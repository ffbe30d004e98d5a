"""The majority of the sources: every source that votes on a text counts the same, its vote split as its distribution is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.labeler.weak_supervision.votes import VoteTable


def majority(votes: VoteTable, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the votes that each label of a text has.

    Args:
        votes: of S sources on N texts.
        prior: float [C], sums to 1: what a text without any vote gets.
    Returns:
        float [N, C], rows sum to 1.
    """
    counts = votes.probs.sum(axis=0)  # [N, C]
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.where(totals > 0, counts / np.maximum(totals, 1), prior))
