"""A linear model of soft labels over embeddings, which stands in for a student where one would take minutes to train.

It learns as a student does, by cross-entropy to the soft labels. The likelihood by which labels are refined (`text_prior.py`) is
not for labels that were refined already: it takes them for evidence of one text each, counts what the other texts said twice,
and gives up labels (docs/log.md).

Axes: N texts, M other texts, H width, C labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from potstill.labeler.aggregation.other_texts.text_prior import RIDGE

_MAX_ITERATIONS = 100


def learned_answers(
    vectors: NDArray[np.float32], targets: NDArray[np.float64], asked: NDArray[np.float32], ridge: float = RIDGE
) -> NDArray[np.float64]:
    """What a model of some texts' labels says of others.

    Args:
        vectors: float32 [N, H], rows of length 1.
        targets: float [N, C], rows sum to 1.
        asked: float32 [M, H], rows of length 1.
        ridge: penalty of half the squared weights, next to the sum of the texts' losses; biases are free.
    Returns:
        float [M, C], rows sum to 1.
    """
    middle = vectors.mean(axis=0, dtype=np.float64)
    weights = _fitted(vectors - middle, targets, ridge)
    return np.asarray(softmax((asked - middle) @ weights[:-1] + weights[-1], axis=1))


def _fitted(vectors: NDArray[np.float64], targets: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """The weights with the least penalised cross-entropy, float [H + 1, C]: a row for each direction, then the biases."""
    n, width = vectors.shape
    n_labels = targets.shape[1]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Penalised loss and its gradient, in nats per text."""
        weights, biases = flat[:-n_labels].reshape(width, n_labels), flat[-n_labels:]
        log_probs = log_softmax(vectors @ weights + biases, axis=1)
        gap = np.exp(log_probs) - targets
        value = -(targets * log_probs).sum() + ridge / 2 * (weights**2).sum()
        slope = vectors.T @ gap + ridge * weights
        return float(value) / n, np.concatenate([slope.ravel(), gap.sum(axis=0)]) / n

    start = np.zeros((width + 1) * n_labels)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITERATIONS})
    return np.asarray(found.x.reshape(width + 1, n_labels))
