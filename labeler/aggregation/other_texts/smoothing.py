"""Smooth soft labels over the nearest texts in an embedding space, without gold labels.

Texts that lie close together mostly have the same label, and the teacher's errors on them are partly independent, so their mean
errs less.

Axes: N texts, H width, K neighbours, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError

_CELLS = 8_000_000  # similarities in memory at once: about 100 MB with their ordering, whatever the number of texts


@dataclass(frozen=True)
class Neighbours:
    """The K nearest other texts of every text."""

    indices: NDArray[np.int64]  # [N, K]
    weights: NDArray[np.float64]  # [N, K], cosine similarity, 0 where it is negative


def nearest(embeddings: NDArray[np.float32], k: int) -> Neighbours:
    """Find the K most similar other texts of every text, block by block.

    Args:
        embeddings: float32 [N, H], rows of length 1.
        k: at least 1.
    Raises:
        UserError: if there are not k other texts.
    """
    n = len(embeddings)
    if k >= n:
        raise UserError(f"smooth is {k} neighbours, and the run has {n} texts; ask for at most {n - 1}")
    indices = np.empty((n, k), dtype=np.int64)
    weights = np.empty((n, k), dtype=np.float64)
    step = max(1, _CELLS // n)
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        similarity = embeddings[rows] @ embeddings.T  # [step, N]
        similarity[rows - start, rows] = -np.inf  # a text is not its own neighbour
        best = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        indices[rows] = best
        weights[rows] = np.clip(np.take_along_axis(similarity, best, axis=1), 0, None)
    return Neighbours(indices, weights)


def smoothed(probs: NDArray[np.float64], neighbours: Neighbours, weight: float) -> NDArray[np.float64]:
    """Mix each text's distribution with the similarity-weighted mean of its neighbours' distributions.

    Args:
        probs: float [N, C], rows sum to 1.
        weight: share of the neighbours in the mixture, 0 to 1.
    Returns:
        float [N, C], rows sum to 1; a text without a similar neighbour keeps its distribution.
    """
    total = neighbours.weights.sum(axis=1, keepdims=True)  # [N, 1]
    shares = np.where(total > 0, neighbours.weights / np.where(total > 0, total, 1), 0)  # [N, K]
    around = np.zeros_like(probs)
    for column in range(shares.shape[1]):  # one neighbour at a time: an array [N, K, C] could be large
        around += shares[:, column, None] * probs[neighbours.indices[:, column]]
    return np.asarray(np.where(total > 0, (1 - weight) * probs + weight * around, probs))
